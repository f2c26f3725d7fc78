// Goroutines that hold locks in every way, and while they wait for everything that a goroutine can wait for. Others want
// each of the locks; some only have a pointer to the struct with the lock.
package main

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

type backend struct {
	name string
	mu   sync.Mutex
	n    int
	rw   sync.RWMutex
}

var a, b, c = make(chan int), make(chan int), make(chan int)

//go:noinline
func (s *backend) deferred() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-a:
	case <-b:
	case v := <-c:
		s.n = v
	}
}

//go:noinline
func (s *backend) closure() {
	s.mu.Lock()
	defer func() {
		s.n++
		s.mu.Unlock()
	}()
	<-a
}

//go:noinline
func (s *backend) plain() {
	s.mu.Lock()
	<-a
	s.n++
	s.mu.Unlock()
}

// before holds the lock no longer when it waits.
//
//go:noinline
func (s *backend) before() {
	s.mu.Lock()
	s.n++
	s.mu.Unlock()
	<-a
	runtime.KeepAlive(s)
}

// again does the same in a loop, so that a release follows its wait, but an acquisition comes first.
//
//go:noinline
func (s *backend) again() {
	for {
		s.mu.Lock()
		s.n++
		s.mu.Unlock()
		<-a
	}
}

// reads holds a lock for reading in a system call.
//
//go:noinline
func (s *backend) reads(fd int) {
	s.rw.RLock()
	select {
	case <-b:
	default:
		_, _ = syscall.Read(fd, make([]byte, 1))
	}
	<-b
	s.rw.RUnlock()
}

// inLoop has a record of each deferred call on the heap.
//
//go:noinline
func (s *backend) inLoop(times int) {
	for i := 0; i < times; i++ {
		s.rw.RLock()
		defer s.rw.RUnlock()
	}
	<-b
}

//go:noinline
func (s *backend) sleeps() {
	s.rw.Lock()
	defer s.rw.Unlock()
	time.Sleep(time.Hour)
}

// stale leaves the closure of a deferred call on its stack, which an earlier call had at the same place.
//
//go:noinline
func (s *backend) stale() {
	for i := 0; ; i++ {
		s.once(i > 0)
	}
}

//go:noinline
func (s *backend) once(again bool) {
	if again {
		<-c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

//go:noinline
func (s *backend) bystander() {
	<-c
	runtime.KeepAlive(s)
}

//go:noinline
func (s *backend) want() {
	s.mu.Lock()
	s.mu.Unlock()
}

//go:noinline
func (s *backend) wantBoth() {
	s.rw.Lock()
	s.rw.Unlock()
}

//go:noinline
func member(group *sync.WaitGroup, from *os.File) {
	defer group.Done()
	_, _ = from.Read(make([]byte, 1))
}

// wanted is called for each lock after somebody had the time to take it.
func wanted(f func()) {
	time.Sleep(20 * time.Millisecond)
	for i := 0; i < 3; i++ {
		go f()
	}
}

func main() {
	for _, hold := range []func(*backend){(*backend).deferred, (*backend).closure, (*backend).plain} {
		s := &backend{name: "mutex"}
		go hold(s)
		wanted(s.want)
		go s.bystander()
	}
	// The one that held this lock has ended.
	gone := &backend{name: "gone"}
	go gone.mu.Lock()
	time.Sleep(20 * time.Millisecond)
	go gone.bystander()
	wanted(gone.want)

	free := &backend{name: "free"}
	go free.before()
	go free.again()
	go free.stale()
	time.Sleep(20 * time.Millisecond)
	free.mu.Lock()
	wanted(free.want)

	reading, writing, _ := os.Pipe()
	pair := make([]int, 2)
	_ = syscall.Pipe(pair)
	for _, hold := range []func(*backend){
		func(s *backend) { s.reads(pair[0]) },
		func(s *backend) { s.inLoop(2) },
		(*backend).sleeps,
	} {
		s := &backend{name: "rwmutex"}
		go hold(s)
		wanted(s.wantBoth)
	}
	group := new(sync.WaitGroup)
	group.Add(1)
	go member(group, reading)
	go group.Wait()
	time.Sleep(50 * time.Millisecond)
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = syscall.Read(0, make([]byte, 1))
	runtime.KeepAlive(writing)
	runtime.KeepAlive(free)
}
