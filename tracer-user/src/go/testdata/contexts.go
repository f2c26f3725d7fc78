// Waits for contexts and for other channels. Each function has the waits that done.rs knows of it, in this order.
package main

import "context"

//go:noinline
func work(int) {}

//go:noinline
func at(ctx context.Context) { <-ctx.Done() }

//go:noinline
func before(ctx context.Context) {
	done := ctx.Done()
	work(1)
	<-done
}

//go:noinline
func other(ctx context.Context, c chan int) {
	done := ctx.Done()
	<-c
	<-done
}

//go:noinline
func either(ctx context.Context, done <-chan struct{}, asks bool) {
	if asks {
		done = ctx.Done()
	}
	work(1)
	<-done
}

//go:noinline
func both(a, b context.Context, first bool) {
	var done <-chan struct{}
	if first {
		done = a.Done()
	} else {
		done = b.Done()
	}
	work(1)
	<-done
}

//go:noinline
func reset(ctx context.Context, c chan struct{}, n int) {
	done := ctx.Done()
	for i := 0; i < n; i++ {
		work(i)
		done = c
	}
	<-done
}

//go:noinline
func change(done *<-chan struct{}) { *done = nil }

//go:noinline
func changed(ctx context.Context) {
	done := ctx.Done()
	change(&done)
	<-done
}

type state struct {
	n    int
	done <-chan struct{}
}

//go:noinline
func (s *state) change() { s.done = nil }

//go:noinline
func field(ctx context.Context) {
	s := state{1, ctx.Done()}
	s.change()
	<-s.done
}

//go:noinline
func loop(ctx context.Context, c chan int) {
	done := ctx.Done()
	for {
		select {
		case <-done:
			return
		case v := <-c:
			work(v)
		}
	}
}

//go:noinline
func sends(ctx context.Context, c chan int, s chan string, text string) {
	done := ctx.Done()
	for {
		select {
		case v := <-c:
			work(v)
		case s <- text:
		case <-done:
			return
		}
	}
}

//go:noinline
func nested(ctx context.Context, c, d chan int) {
	done := ctx.Done()
	for {
		select {
		case v := <-c:
			work(v)
		case v := <-d:
			work(v)
		}
		select {
		case v := <-c:
			work(v)
		case <-done:
			return
		}
	}
}

//go:noinline
func without(ctx context.Context, c, d chan int) {
	work(cap(ctx.Done()))
	select {
	case v := <-c:
		work(v)
	case v := <-d:
		work(v)
	}
}

//go:noinline
func inCase(ctx context.Context, c chan int) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-c:
			work(v)
		}
	}
}

func main() {
	ctx := context.Background()
	at(ctx)
	before(ctx)
	other(ctx, nil)
	either(ctx, nil, true)
	both(ctx, ctx, true)
	reset(ctx, nil, 1)
	changed(ctx)
	field(ctx)
	loop(ctx, nil)
	sends(ctx, nil, nil, "")
	nested(ctx, nil, nil)
	without(ctx, nil, nil)
	inCase(ctx, nil)
}
