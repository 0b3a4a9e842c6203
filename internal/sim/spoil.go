package sim

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

// sumLen is how long the checksum is at the end of a record.
const sumLen = 4

// damage is what a reader of a spoilt record is told.
func (h *held) damage(key string) error {
	if _, err := store.DecodeRecord([]byte(key), h.spoilt); err != nil {
		return fmt.Errorf("simulated disk: %w", err)
	}
	panic("a record that was spoilt can be read")
}

// spoil flips some bits of a record, or of its value only if that is kept apart.
func (h *held) spoil(rng *rand.Rand, key string, apart bool) {
	whole := store.AppendRecord(nil, []byte(key), &h.record)
	from, end := 0, 8*len(whole)
	if value := h.record.Item.Value; apart && len(value) > 0 {
		h.apart = true
		end -= 8 * sumLen
		from = end - 8*len(value)
	}
	for {
		h.spoilt = bytes.Clone(whole)
		for range 1 + rng.IntN(3) {
			bit := from + rng.IntN(end-from)
			h.spoilt[bit/8] ^= 1 << (bit % 8)
		}
		if _, err := store.DecodeRecord([]byte(key), h.spoilt); errors.Is(err, store.ErrDamaged) {
			return
		}
	}
}

// Spoil flips bits of one durable record of a bucket, and says of which key; "" if
// there is none. Damage may be latent: it is not seen before the disk is opened again,
// until when the engine has the record in its memory. Or it is in a value only, kept
// apart, of which Head tells nothing.
func (e *Engine) Spoil(rng *rand.Rand, b unkai.Bucket, latent, apart bool) (key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return ""
	}
	keys := slices.Sorted(maps.Keys(e.disk.bucket(b).records))
	if len(keys) == 0 {
		return ""
	}
	key = keys[rng.IntN(len(keys))]
	if e.unsynced[name(b, key)] > 0 {
		return "" // it is about to give way
	}
	if _, ok := e.now.bucket(b).records[key]; !ok {
		return "" // it is about to go
	}
	h := e.disk.bucket(b).records[key]
	h.spoil(rng, key, apart)
	e.disk.bucket(b).records[key] = h
	if !latent {
		e.now.bucket(b).records[key] = h
	}
	return key
}

// Fill has the engine refuse growth, or allow it again.
func (e *Engine) Fill(full bool) {
	e.mu.Lock()
	e.full = full
	e.mu.Unlock()
}

// spoilt reports whether a record of a bucket is damaged, seen or not.
func (e *Engine) spoilt(b unkai.Bucket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.disk.spoilt(b) || e.now.spoilt(b)
}

func (d *Disk) spoilt(b unkai.Bucket) bool {
	for _, h := range d.bucket(b).records {
		if h.spoilt != nil {
			return true
		}
	}
	return false
}

// spoilt reports whether a host has damaged records of a bucket.
func (h *host) spoilt(b unkai.Bucket) bool {
	return h.disk.spoilt(b) || h.endpoint != nil && h.engine.spoilt(b)
}

// anySpoilt reports whether there are damaged records at a host other than one, nil for
// any.
func (w *World) anySpoilt(but *host) bool {
	for b := range unkai.Bucket(buckets) {
		if w.spoiltAt(b, but) {
			return true
		}
	}
	return false
}

func (w *World) spoiltAt(b unkai.Bucket, but *host) bool {
	return slices.ContainsFunc(w.hosts, func(o *host) bool { return o != but && o.spoilt(b) })
}

// newest is the latest topology that a node has; nil if none runs.
func (w *World) newest() (top *topology.Topology) {
	for _, h := range w.hosts {
		if n, _ := h.running(); n != nil {
			if t := n.Topology(); top == nil || t.Epoch > top.Epoch {
				top = t
			}
		}
	}
	return top
}

// whole reports whether every replica that was lost has been replaced. Only then may
// another be: what W have acknowledged is safe as long as no more than N-W are lost.
func (w *World) whole() bool {
	if w.lost && w.unsettled() == "" && !w.newest().Gaps() {
		w.lost = false
	}
	return !w.lost
}

// mayLose reports whether a host may lose all that it holds. After a cancelled job there
// can be three nodes with a share and sets of one.
func (w *World) mayLose() bool {
	if !w.whole() || w.unsettled() != "" || w.anySpoilt(nil) {
		return false
	}
	top := w.newest()
	return !top.Gaps() && !slices.ContainsFunc(top.Sets, func(s topology.Set) bool { return len(s.Replicas) < 3 })
}

// spoil damages records of a host, mostly one, and of no bucket of which those of
// another host are damaged still: that would be more than may be lost at once.
func (w *World) spoil(h *host) {
	r := w.bus.rng
	n, _ := h.running()
	if n == nil || h.endpoint == nil || !w.whole() || w.cfg.Memory && w.anySpoilt(h) {
		return
	}
	all, first, latent := w.chance(200), unkai.Bucket(r.IntN(buckets)), !w.cfg.Memory && w.chance(300)
	for i := range unkai.Bucket(buckets) {
		b := (first + i) % buckets
		members := w.newest().Route(b).Members
		if len(members) < 3 || slices.Contains(members, 0) || !slices.Contains(members, n.ID()) || w.spoiltAt(b, h) {
			continue
		}
		key := h.engine.Spoil(r, b, latent, w.cfg.Memory && w.chance(500)) // as internal/store/memory keeps them
		if key == "" {
			continue
		}
		w.logf("SPOILT %s of bucket %d at host %d, latent %v", key, b, h.number, latent)
		w.note("record spoilt")
		if !all {
			return
		}
	}
}

// fill has a host's disk be full for a while.
func (w *World) fill(h *host) {
	if h.endpoint == nil {
		return
	}
	e := h.engine
	e.Fill(true)
	w.bus.after(time.Duration(w.bus.rng.Int64N(int64(20*time.Second))), &event{name: "room", do: func() { e.Fill(false) }})
}

// turnUp has damage found that nobody has come across: every key is asked for while it
// is there, and then a node whose records are damaged starts again, and counts them.
func (w *World) turnUp() {
	if !w.anySpoilt(nil) {
		return
	}
	w.readAll()
	for _, h := range w.hosts {
		spoilt := false
		w.later(0, "restart", func() {
			for b := range unkai.Bucket(buckets) {
				spoilt = spoilt || h.endpoint != nil && h.spoilt(b)
			}
			if spoilt {
				w.crash(h)
				w.start(h)
			}
		})
		if spoilt {
			w.settle("after a start with damaged records")
		}
	}
}
