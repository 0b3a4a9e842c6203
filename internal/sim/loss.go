package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"unkai"
)

// copied is an old copy of all that a host keeps.
type copied struct {
	dir  string
	disk *Disk
	id   unkai.NodeID
	at   time.Time
}

// backUp copies what a host keeps, which may be running.
func (w *World) backUp(h *host) {
	if h.endpoint == nil || w.cfg.Memory || h.copy.id == h.endpoint.id && time.Since(h.copy.at) < 40*time.Second {
		return // one that is made anew is seldom old
	}
	h.copies++
	c := copied{filepath.Join(w.cfg.Dir, fmt.Sprintf("%d.copy%d", h.number, h.copies)), h.engine.Durable(), h.endpoint.id, time.Now()}
	if err := inherit(h.dir, c.dir); err != nil {
		w.fail(err)
		return
	}
	h.copy = c
}

// restore puts an old copy in the place of what a host keeps, if there is one. The node
// finds out, if others have heard of it since and can be asked: that is its promise.
func (w *World) restore() bool {
	const age = 15 * time.Second
	i := slices.IndexFunc(w.hosts, func(h *host) bool {
		return h.endpoint != nil && h.copy.id == h.endpoint.id && time.Since(h.copy.at) >= age
	})
	if i < 0 || slices.ContainsFunc(w.hosts, (*host).stalled) || !w.mayLose() {
		return false
	}
	h := w.hosts[i]
	w.logf("RESTORED host %d to what it was at %v", h.number, h.copy.at)
	w.note("restored")
	w.lost = true
	w.mend()
	w.crash(h)
	h.dir, h.disk = h.copy.dir, h.copy.disk
	h.copy = copied{}
	w.start(h)
	return true
}

// forget empties a host's directory and disk, but for the file that says who it is.
func (w *World) forget(h *host) bool {
	stalled := slices.ContainsFunc(w.hosts, (*host).stalled)
	// Others do not let it in while its clock is behind what they remember of it.
	if h.endpoint == nil || w.cfg.Memory || stalled || !w.mayLose() {
		return false
	}
	w.lost = true
	w.mend()
	w.empty(h)
	return true
}

// empty begins a host's next life with nothing but who it is.
func (w *World) empty(h *host) {
	w.logf("EMPTIED host %d", h.number)
	w.note("emptied")
	w.crash(h)
	dir := filepath.Join(w.cfg.Dir, fmt.Sprintf("%d.%d.empty", h.number, h.life))
	if err := keep(h.dir, dir, "node"); err != nil {
		w.fail(err)
		return
	}
	h.dir, h.disk, h.copy = dir, w.blank(), copied{}
	w.start(h)
}

// keep makes a directory that has one file of another.
func keep(from, to, name string) error {
	what, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return fmt.Errorf("read who a node is: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make an empty directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, name), what, 0o600); err != nil {
		return fmt.Errorf("keep who a node is: %w", err)
	}
	return nil
}
