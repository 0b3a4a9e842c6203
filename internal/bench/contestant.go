package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Contestant is a server that takes part in a comparison.
type Contestant struct {
	Name string
	// Command is the command line of a server with these addresses.
	Command func(Place) []string
	// Profiles: it serves profiles by HTTP as Go programs do.
	Profiles bool
}

// Place is where a server shall listen, and keep its data.
type Place struct {
	Listen, HTTP, Peer string
	Dir                string
}

// noLonger is how long a request may take: where a machine or its disk stands still for some
// seconds that is a latency to be shown, and no error.
const noLonger = time.Minute

// FindMemcached looks for memcached, as it is started in every published figure.
func FindMemcached() (Contestant, error) {
	path, err := exec.LookPath("memcached")
	if err != nil {
		return Contestant{}, fmt.Errorf("memcached is needed beside Unkai; install it, for instance "+
			"with `apt-get install memcached`, `dnf install memcached` or `brew install memcached`: %w", err)
	}
	return Memcached("memcached", path), nil
}

// Memcached is the memcached at that path.
func Memcached(name, path string) Contestant {
	return Contestant{Name: name, Command: func(p Place) []string {
		host, port, err := net.SplitHostPort(p.Listen)
		if err != nil {
			panic(err) // Places are made here
		}
		args := []string{path, "-l", host, "-p", port, "-U", "0", "-t", "2", "-m", "4096", "-c", "4096"}
		if os.Geteuid() == 0 {
			args = append(args, "-u", "root") // it insists on being told
		}
		return args
	}}
}

// Unkai is the binary at that path with one of its stores, "memory" or "disk".
// A write is on disk before the reply.
func Unkai(path, store string) Contestant {
	return Contestant{Name: store, Profiles: true, Command: func(p Place) []string {
		return []string{path, "serve", "--data", p.Dir, "--listen", p.Listen, "--http", p.HTTP, "--peer", p.Peer,
			"--store", store, "--sync", "always", "--request-timeout", noLonger.String()}
	}}
}

// newPlace has addresses of the loopback interface that are free, and dir.
func newPlace(dir string) (p Place, err error) {
	for _, addr := range []*string{&p.Listen, &p.HTTP, &p.Peer} {
		l, err := net.Listen("tcp", loopback()+":0")
		if err != nil {
			return p, fmt.Errorf("look for a free port: %w", err)
		}
		// All are held until all are found, so that they differ.
		defer func() { _ = l.Close() }()
		*addr = l.Addr().String()
	}
	p.Dir = dir
	return p, nil
}

// loopback is an address of this machine that is hardly anybody else's, so that a port which
// is free there stays so until the server takes it: connections of this machine to itself
// come from 127.0.0.1, each with a port. Where there is no other address it may be taken.
func loopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	process := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 129+process>>16&63, process>>8&255, process&255)
}
