package node_test

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
)

var hosts atomic.Uint32

// lasting is an address, its port to be chosen, that a node finds free when it comes back
// to it: what this machine connects to itself comes from 127.0.0.1, with a port that may
// have been the node's. Where there is one loopback address only it may be taken.
func lasting() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	process, host := os.Getpid(), hosts.Add(1)
	return fmt.Sprintf("127.%d.%d.%d:0", 1+process>>8&127, process&255, 1+host%254)
}
