package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// network is some hosts with a switch between them: each is a network namespace
// of its own, and so is the switch. This machine is on it too, so that clients
// reach every host whatever is cut between the hosts.
type network struct {
	name  string // of the switch and of the link to it; hosts are called after it
	slot  int    // the third byte of all its addresses
	hosts int
}

// link is what one host sends to another, by their numbers.
type link struct{ from, to int }

// newNetwork makes a network that lasts until the end of the test.
func newNetwork(t testing.TB, hosts int) *network {
	t.Helper()
	need(t, "ip", "iproute2")
	need(t, "iptables-restore", "iptables")
	if os.Getuid() != 0 {
		skip(t, "making network namespaces needs root")
	}
	n := &network{hosts: hosts}
	n.claim(t)
	n.remove(t) // what a run has left that was killed
	t.Cleanup(func() { n.remove(t) })
	if err := run(nil, "ip", "netns", "add", n.name); err != nil {
		skip(t, "making network namespaces: %v", err)
	}
	n.must(t, "ip", "-n", n.name, "link", "add", "switch", "type", "bridge")
	n.must(t, "ip", "-n", n.name, "link", "set", "switch", "up")
	n.must(t, "ip", "link", "add", n.name, "type", "veth", "peer", "name", "clients", "netns", n.name)
	n.must(t, "ip", "-n", n.name, "link", "set", "clients", "master", "switch", "up")
	n.must(t, "ip", "addr", "add", n.address(hosts)+"/24", "dev", n.name)
	n.must(t, "ip", "link", "set", n.name, "up")
	for i := range hosts {
		host, port := n.host(i), fmt.Sprint("host", i)
		n.must(t, "ip", "netns", "add", host)
		n.must(t, "ip", "-n", n.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
		n.must(t, "ip", "-n", n.name, "link", "set", port, "master", "switch", "up")
		n.must(t, "ip", "-n", host, "link", "set", "lo", "up")
		n.must(t, "ip", "-n", host, "addr", "add", n.address(i)+"/24", "dev", "eth0")
		n.must(t, "ip", "-n", host, "link", "set", "eth0", "up")
	}
	return n
}

// claim takes names and addresses that no other process has. They are free when
// the process ends, however it does: that is what sockets without a file are for.
func (n *network) claim(t testing.TB) {
	t.Helper()
	for slot := 1; slot < 255; slot++ {
		name := fmt.Sprint("unkai-e2e", slot)
		l, err := net.Listen("unix", "@"+name)
		if err != nil {
			continue
		}
		t.Cleanup(func() { l.Close() })
		n.name, n.slot = name, slot
		return
	}
	t.Fatal("too many networks at once")
}

// remove takes away what there is of the network.
func (n *network) remove(t testing.TB) {
	t.Helper()
	if _, err := net.InterfaceByName(n.name); err == nil {
		n.must(t, "ip", "link", "delete", n.name)
	}
	names := []string{n.name}
	for i := range n.hosts {
		names = append(names, n.host(i))
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join("/run/netns", name)); err == nil {
			n.must(t, "ip", "netns", "delete", name)
		}
	}
}

func (n *network) host(i int) string { return fmt.Sprint(n.name, "-", i) }

// address is that of a host; this machine's comes after the last. They are of the
// range that is set aside for measuring networks.
func (n *network) address(i int) string { return fmt.Sprintf("198.18.%d.%d", n.slot, i+1) }

// inside are the words that have a command run on a host.
func (n *network) inside(i int) []string { return []string{"ip", "netns", "exec", n.host(i)} }

// cut drops what is sent over these links and lets all else through. When it
// returns, it is so at all hosts.
func (n *network) cut(t testing.TB, links ...link) {
	t.Helper()
	rules := make([]bytes.Buffer, n.hosts)
	for i := range rules {
		rules[i].WriteString("*filter\n:INPUT ACCEPT [0:0]\n")
	}
	for _, l := range links {
		fmt.Fprintf(&rules[l.to], "-A INPUT -s %s -j DROP\n", n.address(l.from))
	}
	errs := make([]error, n.hosts)
	var wg sync.WaitGroup
	for i := range rules {
		rules[i].WriteString("COMMIT\n")
		wg.Go(func() { errs[i] = run(rules[i].Bytes(), append(n.inside(i), "iptables-restore")...) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("cutting %v: %v", links, err)
		}
	}
}

func (n *network) must(t testing.TB, command ...string) {
	t.Helper()
	if err := run(nil, command...); err != nil {
		t.Fatal(err)
	}
}

// run runs a command to its end.
func run(input []byte, command ...string) error {
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = bytes.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w: %s", command, err, bytes.TrimSpace(out))
	}
	return nil
}
