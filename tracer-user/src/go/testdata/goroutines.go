// Goroutines of every kind, all blocked, for tests that compare what golife reads with what Go says.
package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

var (
	never = make(chan int) // nobody sends
	full  = make(chan int) // nobody receives
	mutex sync.Mutex
)

type server struct{ name string }

func (s *server) run()          { <-never }
func (s server) serve(port int) { full <- port }

type runner interface{ run() }

func worker(id int, name string) {
	outer(id)
}

func generic[T any](value T, stop chan T) {
	stop <- value
}

// outer and inner are inlined into worker.
func outer(id int) { inner(id + 1) }

func inner(id int) {
	full <- id
}

func waitForMutex() {
	mutex.Lock()
}

func spawn() {
	go worker(1, "one")
	go waitForMutex()
	for i := 0; i < 20; i++ {
		go func() {
			<-never
		}()
		go func(n int) {
			select {
			case <-never:
			case full <- n:
			}
		}(i)
	}
}

func main() {
	mutex.Lock()
	spawn()
	s := &server{"s"}
	go s.run()
	go s.serve(80)
	var r runner = s
	go r.run()
	f := s.run
	go f()
	go generic("x", make(chan string))
	go generic(7, full)
	go time.Sleep(time.Hour)
	go func() {
		defer fmt.Println("never")
		go func() { select {} }()
		select {}
	}()
	time.Sleep(300 * time.Millisecond)
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}
