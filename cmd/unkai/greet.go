package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
)

// loopback reports whether only this machine can connect to an address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// reachable is how somebody on this machine connects to a listener: one on
// every address is also on loopback.
func reachable(a net.Addr) (host, port string) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), ""
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return host, port
}

// greet says how to connect: to a person with lines to copy, to a log with one
// entry.
func (o *outside) greet(n running, person bool, log *slog.Logger) {
	host, port := reachable(n.Listen())
	try := fmt.Sprintf(`printf 'set k 0 0 5\r\nhello\r\nget k\r\nquit\r\n' | curl -s telnet://%s`, net.JoinHostPort(host, port))
	if !person {
		log.Info("any memcached client can connect", "listen", n.Listen().String(), "try", try)
		return
	}
	o.complain("\n  Connect with any memcached client, or try\n    %s\n", try)
	if n.HTTP() != nil {
		host, port := reachable(n.HTTP())
		o.complain("  How it is\n    unkai status --http %s\n", net.JoinHostPort(host, port))
	}
	o.complain("  Stop with Ctrl-C\n\n")
}
