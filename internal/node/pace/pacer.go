package pace

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Pacer has those who copy wait so long that a Limit is kept. Set the fields, then
// Run; without Run there is no limit.
type Pacer struct {
	Now func() int64 // milliseconds since 1970
	// Moving reports whether buckets are on their way anywhere in the cluster.
	Moving func() bool
	// Receivers asks those to whom this node brings buckets what they have Told, and
	// gives the highest; nil: there are none.
	Receivers func(ctx context.Context) float64
	Latencies Latencies

	moved atomic.Int64 // bytes, since the last look
	slow  atomic.Bool  // a receiver was, since then

	mu     sync.Mutex
	limit  Limit
	queue  queue
	active bool    // something is copied
	speed  float64 // at which, in bytes a second
}

const (
	// look is how often it is looked what clients wait.
	look = 50 * time.Millisecond
	// ask is how often receivers are asked.
	ask = 500 * time.Millisecond
	// While there are clients, all nodes rest at the same time, if their clocks are
	// right: for so long, so often. After a while what was under way has arrived, and
	// it can be seen how it is without the copy.
	restEvery   = 5 * time.Second
	restFor     = 250 * time.Millisecond
	restArrived = 75 * time.Millisecond
	// hardly is how many bytes a second nobody notices.
	hardly = 256 << 10
	// patience is how long a receiver may take for a message.
	patience = time.Second
)

// queue is who waits, as bytes: whoever copied some has to wait until they are
// paid for, and so are those of all who came before.
type queue struct {
	copied, paid float64
	at           time.Time
}

func (q *queue) pay(now time.Time, rate float64, rests bool) {
	switch since := now.Sub(q.at); {
	case rate == 0:
		q.paid = q.copied
	case !rests:
		q.paid = min(q.copied, q.paid+since.Seconds()*rate)
	}
	q.at = now
}

// State is how fast may be copied, and why.
type State struct {
	Rate   int64 // bytes a second, of all that this node copies; 0: any number, or none
	Speed  int64 // bytes a second that it does
	Strain float64
	Slow   bool // a receiver waits for its disk
}

// State is that at this moment.
func (p *Pacer) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Speed: int64(p.speed)}
	if p.speed > hardly { // else it is not the limit that holds anything
		s.Rate, s.Strain, s.Slow = p.limit.Rate(), p.limit.Strain(), p.limit.Slow()
	}
	return s
}

// Told is the strain of this node's clients for who brings it something.
func (p *Pacer) Told() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit.Told()
}

// Answered tells how long a receiver took for what it was brought, and whether it
// has refused it.
func (p *Pacer) Answered(took time.Duration, refused bool) {
	if took > patience || refused {
		p.slow.Store(true)
	}
}

// Wait waits until bytes that were copied are within the limit, or until the context
// ends. Who leaves early has copied them all the same: whoever comes later waits until
// they are paid for.
func (p *Pacer) Wait(ctx context.Context, bytes int) error {
	p.moved.Add(int64(bytes))
	p.mu.Lock()
	p.queue.pay(time.Now(), p.limit.rate, p.rests()) // by those who came before
	p.queue.copied += float64(bytes)
	mine := p.queue.copied
	p.mu.Unlock()
	for {
		left := p.left(mine)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, look)):
		}
	}
}

// left is how long it takes until so much is paid for.
func (p *Pacer) left(mine float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	rests := p.rests()
	p.queue.pay(time.Now(), p.limit.rate, rests)
	switch owed := mine - p.queue.paid; {
	case rests:
		return look
	case owed <= 0:
		return 0
	default:
		return max(time.Millisecond, time.Duration(owed/p.limit.rate*float64(time.Second)))
	}
}

// rests reports whether nothing is to be copied now.
func (p *Pacer) rests() bool {
	return p.active && p.limit.rate > 0 && p.place() < restFor
}

// place is how long ago the last rest has begun, or would have.
func (p *Pacer) place() time.Duration {
	return time.Duration(p.Now()) * time.Millisecond % restEvery
}

// Run looks what clients wait, until the context ends.
func (p *Pacer) Run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	var told chan float64 // of receivers that are being asked
	tick := time.NewTicker(look)
	defer tick.Stop()
	v := p.view()
	asked := v.at
	for {
		select {
		case <-ctx.Done():
			return
		case strain := <-told:
			told, v.receivers = nil, max(v.receivers, strain)
		case <-tick.C:
			p.look(v)
			if p.Receivers != nil && told == nil && v.active && v.at.Sub(asked) >= ask {
				asked, told = v.at, make(chan float64, 1)
				asking.Go(func() { told <- p.Receivers(ctx) })
			}
		}
	}
}

// view is what was seen until some moment.
type view struct {
	at        time.Time
	place     time.Duration
	active    bool
	speed     float64
	receivers float64
	all       [kinds]tally
}

func (p *Pacer) view() *view {
	v := &view{at: time.Now(), place: p.place()}
	for k := range kinds {
		v.all[k] = p.Latencies.all(k)
	}
	return v
}

// look tells the limit what has been seen since an earlier view, which becomes the
// present one.
func (p *Pacer) look(v *view) {
	now := p.view()
	s := Seen{Lasted: now.at.Sub(v.at), Moved: p.moved.Swap(0), Receivers: v.receivers, Slow: p.slow.Swap(false)}
	for k := range kinds {
		s.batches[k], s.waiting[k] = now.all[k].since(&v.all[k]), p.Latencies.open(k) > 0
	}
	if s.Lasted > 0 { // a mean over a second
		part := min(1, s.Lasted.Seconds())
		now.speed = v.speed*(1-part) + float64(s.Moved)/s.Lasted.Seconds()*part
	}
	now.active = now.speed > hardly || p.Moving()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Phase = phase(v, now, p.limit.rate > 0)
	p.limit.Look(&s)
	p.active, p.speed = now.active, now.speed
	p.queue.pay(now.at, p.limit.rate, p.rests())
	*v = *now
}

// phase is what the copy did between two views, if it rests at all.
func phase(from, to *view, rests bool) Phase {
	switch {
	case !from.active && !to.active:
		return Idle
	case !rests:
		return Copying
	case to.place < from.place: // a rest began
		return Between
	case from.place >= restFor:
		return Copying
	case from.place >= restArrived && to.place < restFor:
		return Resting
	default:
		return Between
	}
}
