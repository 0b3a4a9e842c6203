package antientropy

import (
	"fmt"
	"sync"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/node/replica"
)

func (r *Repairer) serveAdopt(in *reader, b unkai.Bucket, at unkai.Epoch) ([]byte, error) {
	calls, err := in.adoptions(r.Topology().Space(), b, at, maxKeys)
	if err != nil {
		return nil, err
	}
	fates := r.adopt(calls)
	out := u32([]byte{byte(stateOK)}, uint32(len(fates)))
	for _, f := range fates {
		out = append(out, byte(f))
	}
	return out, nil
}

// adoptions reads a list of records that are to be adopted, to the message's end.
func (in *reader) adoptions(space ring.Space, b unkai.Bucket, at unkai.Epoch, most int) ([]replica.Call, error) {
	calls := make([]replica.Call, in.list(18, most))
	for i := range calls {
		e, err := in.entry(space, b)
		if err != nil {
			return nil, err
		}
		calls[i] = e.adoption(b, at)
	}
	return calls, in.end()
}

// adoptions waits for the answers that were not there at once.
type adoptions struct{ sync.WaitGroup }

// CallAnswered implements replica.Answered.
func (a *adoptions) CallAnswered(*replica.Call) { a.Done() }

// adopt has this node's replica adopt records, which share its syncs.
func (r *Repairer) adopt(calls []replica.Call) []fate {
	var open adoptions
	for i := range calls {
		calls[i].Answered = &open
		open.Add(1)
		if r.Replica.Adopt(&calls[i]) {
			open.Done()
		}
	}
	open.Wait()
	return r.fates(calls)
}

func (r *Repairer) fates(calls []replica.Call) []fate {
	fates := make([]fate, len(calls))
	for i := range calls {
		fates[i] = r.fateOf(&calls[i])
	}
	return fates
}

// fateOf counts what has become of a call.
func (r *Repairer) fateOf(c *replica.Call) fate {
	switch {
	case c.Status == replica.OK && c.Adopted:
		r.stats.adopted.Add(1)
		return fateAdopted
	case c.Status == replica.OK:
		return fateLevel
	case c.Status == replica.Refused:
		return fateRefused
	default:
		r.stats.failed.Add(1)
		return fateFailed
	}
}

func (r *Repairer) serveSettle(in *reader) ([]byte, error) {
	keys := make([][]byte, in.list(1, maxKeys))
	for i := range keys {
		keys[i] = in.key()
	}
	if err := in.end(); err != nil {
		return nil, err
	}
	if err := r.settle(keys); err != nil {
		return nil, fmt.Errorf("settle what could not be adopted: %w", err)
	}
	return []byte{byte(stateOK)}, nil
}

func (r *Repairer) settle(keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	r.stats.settled.Add(int64(len(keys)))
	return r.Settle(keys)
}
