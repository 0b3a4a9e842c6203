//go:build !linux

package bench

import "net"

func newDriver(w *worker, conns []net.Conn) (driver, error) { return newGoroutineDriver(w, conns), nil }
