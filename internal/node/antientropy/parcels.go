package antientropy

import (
	"context"
	"errors"
	"sync"
	"time"

	"unkai/internal/core/quorum"
	"unkai/internal/store"
)

// parcels are the records that a bucket's joining replicas are brought next.
type parcels struct {
	*bringer
	to    [][]byte // a message to each member
	count []int    // of the records in it
}

func (c *bringer) parcels() *parcels {
	return &parcels{bringer: c, to: make([][]byte, len(c.route.Members)), count: make([]int, len(c.route.Members))}
}

// keptMessage is how long a message may be whose memory is kept.
const keptMessage = 4 * maxBrought

// messages keeps the memory of messages for the next bucket.
var messages = sync.Pool{New: func() any { return new([]byte) }}

// add adds a record for some members, and reports whether it is time to send.
func (p *parcels) add(whom quorum.Mask, e *store.Entry) (full bool) {
	for i := range p.to {
		if !whom.Has(i) {
			continue
		}
		if p.count[i] == 0 {
			if p.to[i] == nil {
				p.to[i] = (*messages.Get().(*[]byte))[:0]
			}
			p.to[i] = u32(append(append(p.to[i], about(askBring, p.b, p.route.Epoch)...), noSums), 0)
		}
		p.to[i] = appendBrought(p.to[i], e)
		p.count[i]++
		full = full || len(p.to[i]) >= maxBrought
	}
	return full
}

// errBrought: a joining replica could not take over a record.
var errBrought = errors.New("a joining replica could not take over all that it was brought")

// send sends each member its records, and waits until they are durable there. With the
// last of them it asks for sums, if there is a level to ask for.
func (p *parcels) send(ctx context.Context, last bool) error {
	c := p.bringer
	errs := make([]error, len(p.to))
	sent := 0
	var wg sync.WaitGroup
	for i, q := range p.to {
		if p.count[i] == 0 {
			continue
		}
		sent += len(q)
		if last && c.heard != nil {
			q[aboutLen] = byte(c.heard.level)
		}
		copy(q[aboutLen+1:], u32(nil, uint32(p.count[i])))
		wg.Go(func() {
			began := time.Now()
			room := messages.Get().(*[]byte)
			packed, pays := c.packing.pack(*room, q)
			if pays {
				q = packed
			}
			reply, err := c.ask(ctx, c.route.Members[i], q)
			if err == nil && cap(packed) <= keptMessage { // else it may be on its way still
				*room = packed
				messages.Put(room)
			}
			in := reader{b: reply}
			st, refused := state(in.u8()), in.u8() != 0
			c.answered(time.Since(began), err == nil && !in.short && refused)
			switch {
			case err != nil:
				errs[i] = err
			case in.short || st != stateOK:
				errs[i] = errState
			case refused:
				errs[i] = errBrought
			default:
				c.stats.brought.Add(int64(p.count[i]))
				if last && c.heard != nil {
					errs[i] = c.heard.read(i, &in)
				}
			}
		})
	}
	wg.Wait()
	for i := range p.to {
		p.to[i], p.count[i] = p.to[i][:0], 0
	}
	return errors.Join(errors.Join(errs...), c.pay(ctx, sent))
}

// done gives the messages' memory back, unless one may be on its way still.
func (p *parcels) done(failed error) {
	if failed != nil {
		return
	}
	for _, q := range p.to {
		if cap(q) > 0 && cap(q) <= keptMessage {
			messages.Put(&q)
		}
	}
}
