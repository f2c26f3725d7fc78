// Functions with several go statements, each marked at the end of its line: which of its function each of them is.
package main

import (
	"os"
	"time"
)

type worker struct{ n int }

func (w *worker) run() { time.Sleep(time.Duration(w.n)) }

func work(n int) { time.Sleep(time.Duration(n)) }

//go:noinline
func many(n int, w *worker, f func()) {
	for i := 0; i < n; i++ {
		go work(i) // loop
	}
	if n > 1<<40 {
		go work(n) // never
		panic("never")
	}
	go work(1); go work(2) // pair
	func() {
		go work(3) // closure
		defer work(4)
	}()
	go w.run() // method
	go f()     // value
	none(n)
	go func() { work(n) }() // last
}

//go:noinline
func none(n int) { work(n) }

//go:noinline
func shaped[T any](value T) {
	go func() { println(any(value) == nil) }() // shaped
}

func main() {
	many(len(os.Args), &worker{}, func() { work(7) })
	shaped(1)
	shaped("")
}
