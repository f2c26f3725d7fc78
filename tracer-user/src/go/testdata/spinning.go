// Goroutines that never block, so that the scheduler has to interrupt them: by a signal, or when they ask for stack.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

var count int

// Has no frame: it calls nobody.
//
//go:noinline
func leaf() {
	for {
		count++
	}
}

func signalled() {
	leaf()
}

//go:noinline
func deeper(n int) int {
	if n == 0 {
		return 0
	}
	return deeper(n-1) + 1
}

func asking() {
	for {
		count += deeper(50)
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	for i := 0; i < 3; i++ {
		go asking()
		// Without signals nobody would get it off its thread again.
		if !strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1") {
			go signalled()
		}
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}
