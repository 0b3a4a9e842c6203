package antientropy

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"unkai"
)

// Account is how far a repair that was asked for has come at one node, and what was
// found in the buckets that this node compares.
type Account struct {
	ID      uint64 `json:"id"`
	Begun   int64  `json:"begun"` // milliseconds since 1970
	Running bool   `json:"running"`
	// Buckets are those that it is about; nil: all.
	Buckets []unkai.Bucket `json:"buckets,omitempty"`
	// Equal are those found equal at all their replicas. Of them Busy were written to
	// whenever they were looked at: what differed was mended.
	Equal    Set       `json:"equal,omitempty"`
	Busy     Set       `json:"busy,omitempty"`
	Unequal  []Unequal `json:"unequal,omitempty"`
	Differed Set       `json:"differed,omitempty"` // at first
	Brought  int64     `json:"brought"`            // records taken over by who lacked them
	Settled  int64     `json:"settled"`            // keys that needed a round
	Failed   int64     `json:"failed"`             // records that a store could not take over
	Bytes    int64     `json:"bytes"`              // exchanged
}

// Unequal are buckets that could not be found equal, and why not.
type Unequal struct {
	Why     string `json:"why"`
	Buckets Set    `json:"buckets"`
}

// Set is a set of buckets, a bit for each.
type Set []byte

// Add adds a bucket.
func (s *Set) Add(b unkai.Bucket) {
	if at := int(b) / 8; at >= len(*s) {
		*s = append(*s, make(Set, at+1-len(*s))...)
	}
	(*s)[b/8] |= 1 << (b % 8)
}

// Has reports whether a bucket is in it.
func (s Set) Has(b unkai.Bucket) bool { return int(b)/8 < len(s) && s[b/8]&(1<<(b%8)) != 0 }

// Len is how many there are.
func (s Set) Len() (n int) {
	for _, x := range s {
		n += bits.OnesCount8(x)
	}
	return n
}

const (
	// hurry is how long a pass that was asked for comes after the one before.
	hurry = 100 * time.Millisecond
	// lingers is for how long a node waits at least whether it has to compare buckets
	// in the place of another one, which was just found to be away.
	lingers = time.Second
	// maxDemands is how many repairs a node remembers, whether they run or have ended.
	maxDemands = 4
	// maxWhys is how many reasons an account tells apart.
	maxWhys = 16
	// hasty is how often a bucket has to be looked at until leaves are mended that
	// change all the time.
	hasty = 3
)

// trouble is why a bucket was not found equal.
type trouble int

const (
	differs trouble = iota // and was mended: the next look will tell
	absent                 // a replica is away
	foreign                // a replica is not in the bucket's epoch
	counting
	failing
)

// endures is for how long each of them is borne.
var endures = [...]time.Duration{
	differs: time.Minute, absent: time.Second, foreign: 10 * time.Second, counting: 10 * time.Minute, failing: 10 * time.Second,
}

// demand is a repair that somebody has asked for.
type demand struct {
	account Account
	began   time.Time
	open    []attempt // by bucket
}

// attempt is what is known of a bucket that was not found equal yet.
type attempt struct {
	open  bool
	tries int
	why   trouble
	since time.Time // that it is why
}

// demands are those that are under way and the last ones that have ended.
type demands struct {
	mu  sync.Mutex
	all []*demand
}

// Demand has buckets compared now, those of them that this node compares; nil: all.
// Its account is kept until some others have come after it. To ask for one that is
// there already does nothing.
func (r *Repairer) Demand(id uint64, buckets []unkai.Bucket) error {
	r.init()
	d := &demand{
		account: Account{ID: id, Begun: r.Now(), Running: true, Buckets: buckets}, began: time.Now(), open: make([]attempt, len(r.verified)),
	}
	for i := range d.open {
		d.open[i].open = buckets == nil
	}
	for _, b := range buckets {
		if int(b) >= len(d.open) {
			return fmt.Errorf("there are only %d buckets", len(d.open))
		}
		d.open[b].open = true
	}
	s := &r.demands
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.all, func(d *demand) bool { return d.account.ID == id }) {
		return nil
	}
	if len(s.all) == maxDemands {
		oldest := slices.IndexFunc(s.all, func(d *demand) bool { return !d.account.Running })
		if oldest < 0 {
			return fmt.Errorf("%d repairs are under way already", maxDemands)
		}
		s.all = slices.Delete(s.all, oldest, oldest+1)
	}
	s.all = append(s.all, d)
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// Account is that of a repair; 0: of the last one. False: this node knows of none.
func (r *Repairer) Account(id uint64) (Account, bool) {
	s := &r.demands
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range slices.Backward(s.all) {
		if id == 0 || d.account.ID == id {
			a := d.account
			a.Equal, a.Busy, a.Differed, a.Unequal = slices.Clone(a.Equal), slices.Clone(a.Busy), slices.Clone(a.Differed), slices.Clone(a.Unequal)
			for i := range a.Unequal {
				a.Unequal[i].Buckets = slices.Clone(a.Unequal[i].Buckets)
			}
			return a, true
		}
	}
	return Account{}, false
}

// pressed reports whether somebody waits for a repair.
func (s *demands) pressed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(d *demand) bool { return d.account.Running })
}

// wants reports whether somebody waits for a bucket, and whether it was looked at so
// often that what changes all the time has to be mended too.
func (s *demands) wants(b unkai.Bucket) (wanted, hurried bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.all {
		if a := &d.open[b]; d.account.Running && a.open {
			wanted, hurried = true, hurried || a.tries >= hasty
		}
	}
	return wanted, hurried
}

// note notes what a comparison has found.
func (s *demands) note(l *comparison, equal bool) {
	why, text := l.trouble()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.all {
		at := &d.open[l.bucket]
		if !d.account.Running || !at.open {
			continue
		}
		a := &d.account
		a.Brought, a.Settled, a.Failed, a.Bytes = a.Brought+l.brought, a.Settled+l.settled, a.Failed+l.failed, a.Bytes+l.bytes
		if l.differ {
			a.Differed.Add(l.bucket)
		}
		if at.tries++; at.tries == 1 || why != at.why {
			at.why, at.since = why, now
		}
		switch busy := l.all && l.restless; {
		case equal || busy:
			at.open = false
			a.Equal.Add(l.bucket)
			if !equal {
				a.Busy.Add(l.bucket)
			}
		case now.Sub(at.since) >= endures[why]:
			at.open = false
			a.unequal(l.bucket, text)
		}
	}
}

func (a *Account) unequal(b unkai.Bucket, why string) {
	at := slices.IndexFunc(a.Unequal, func(u Unequal) bool { return u.Why == why })
	if at < 0 && len(a.Unequal) == maxWhys {
		at = maxWhys - 1
		a.Unequal[at].Why = "several reasons"
	}
	if at < 0 {
		at = len(a.Unequal)
		a.Unequal = append(a.Unequal, Unequal{Why: why})
	}
	a.Unequal[at].Buckets.Add(b)
}

// trouble is why the replicas were not found equal, if they were not.
func (l *comparison) trouble() (trouble, string) {
	switch {
	case l.err != nil:
		return failing, fmt.Sprintf("it could not be compared to the end: %v", l.err)
	case l.failed > 0:
		return failing, "a replica could not take records over: its store is full, or what it held of them is damaged"
	case l.differ && !l.level:
		return differs, "its replicas still differ"
	}
	return l.why, l.absent
}

// lacks notes why a replica was not compared; the first reason counts.
func (l *comparison) lacks(why trouble, id unkai.NodeID) {
	if !l.all {
		return
	}
	l.all, l.why = false, why
	switch {
	case id == 0:
		l.absent = "one of its replicas was lost, and has no successor yet"
	case why == absent:
		l.absent = fmt.Sprintf("node %v is away", id)
	case why == counting:
		l.absent = fmt.Sprintf("node %v is still counting what it holds", id)
	default:
		l.absent = fmt.Sprintf("node %v does not answer in the bucket's epoch", id)
	}
}

// review ends the demands about which this node can do nothing more.
func (r *Repairer) review() {
	top := r.Topology()
	s := &r.demands
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.all {
		if !d.account.Running || time.Since(d.began) < lingers {
			continue
		}
		d.account.Running = false
		for b := range d.open {
			if d.open[b].open && r.leads(top.Route(unkai.Bucket(b))) {
				d.account.Running = true
				break
			}
		}
	}
}
