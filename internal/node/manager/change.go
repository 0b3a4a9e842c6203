package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"unkai"
	"unkai/internal/core/decree"
	"unkai/internal/core/topology"
)

// Change has what f makes of the newest topology decided and returns the result.
// When another change is decided first, f is asked again. It ends with ctx at
// the latest. An error that is ErrInDoubt leaves open whether the change was
// decided; after any other it was not. An error of f ends it.
func (m *Manager) Change(ctx context.Context, f func(*topology.Topology) (topology.Topology, error)) (*topology.Topology, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("change the topology: %w", ctx.Err())
	}
	if m.ctx.Err() != nil {
		return nil, errClosed
	}
	for {
		base := m.current.Load()
		next, err := f(base)
		if err != nil {
			return nil, err
		}
		if next.Epoch != base.Epoch+1 {
			return nil, fmt.Errorf("change the topology: epoch %d after %d", next.Epoch, base.Epoch)
		}
		if err := next.Seal(); err != nil {
			return nil, err
		}
		d, err := propose(base, &next)
		if err != nil {
			return nil, fmt.Errorf("change the topology: %w", err)
		}
		if len(base.Managers) == 1 && base.Managers[0] == m.cfg.Self {
			err := m.keep(d.next, d.steps, true)
			if err == nil {
				m.announce(base, d)
				return d.next, nil
			}
			if errors.Is(err, ErrUncertain) {
				return nil, fmt.Errorf("%w: %w", ErrInDoubt, err)
			}
			if !errors.Is(err, errAsked) {
				return nil, err
			}
		}
		own, err := m.decide(ctx, base, d)
		if err != nil {
			return nil, fmt.Errorf("change the topology: %w", err)
		}
		if own {
			return d.next, nil
		}
	}
}

// Pending reports whether this manager has accepted a topology of which it does
// not know whether it was decided.
func (m *Manager) Pending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.For(m.current.Load().Epoch+1).Accepted != decree.Ballot{}
}

// Finish has a topology decided that somebody has proposed and left, if there
// is one, so that it does not come as a surprise much later.
func (m *Manager) Finish(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := m.decide(ctx, m.current.Load(), nil)
	return err
}

// decide has a topology decided after base, and reports whether it was that
// one; if not, another one was, and is known now. Without one it decides what
// somebody else has proposed, if anybody has.
func (m *Manager) decide(ctx context.Context, base *topology.Topology, d *decision) (own bool, err error) {
	var value []byte
	if d != nil {
		value = d.value
	}
	epoch := base.Epoch + 1
	m.mu.Lock()
	p := attempt{base: base, seen: m.state.For(epoch).Promised}
	m.mu.Unlock()
	offered := false // somebody may have accepted the value
	var first decree.Ballot
	for try := 0; ; try++ {
		if try > 0 {
			if err := m.pause(ctx, try); err != nil {
				return false, p.failed(offered, err)
			}
		}
		p.Proposer = decree.Propose(m.cfg.Self, len(base.Managers), value, p.seen)
		p.errs = nil
		newer := m.round(ctx, &p, question{Do: prepare, Epoch: epoch, Ballot: p.Ballot, Known: markOf(base)})
		if !newer && p.Enough() {
			best := p.Value()
			if best == nil {
				return false, nil
			}
			if err := m.use(epoch, p.Ballot); err != nil {
				return false, p.failed(offered, err)
			}
			if first == (decree.Ballot{}) {
				first = p.Ballot
			}
			// The same change by somebody else, a flush say, is not this one: it may
			// have been decided long ago, and what was done since is not undone by it. But
			// nothing was when this one was offered first; who has the same after that has
			// found it.
			found := p.Found()
			own := bytes.Equal(best, value) && (offered || found == decree.Ballot{} || found.Node == m.cfg.Self && !found.Less(first))
			offered = offered || own
			p.Propose()
			newer = m.round(ctx, &p, question{Do: accept, Epoch: epoch, Ballot: p.Ballot, Value: best, Known: markOf(base)})
			if p.Enough() {
				if d == nil || !bytes.Equal(best, value) {
					if d, err = chosen(base, best); err != nil {
						return false, fmt.Errorf("learn what was decided: %w", err)
					}
				}
				return own, m.decided(base, d)
			}
		}
		p.seen = p.Seen()
		if t := m.current.Load(); newer || t.Epoch > base.Epoch {
			// Decided by another, or by somebody who has found this one's value.
			t = m.current.Load()
			own := offered && markOf(t) == markOf(d.next)
			if !own && offered && t.Epoch > epoch {
				return false, fmt.Errorf("%w: other changes were decided meanwhile", ErrInDoubt)
			}
			return own, nil
		}
		if ctx.Err() != nil || len(base.Managers) == 1 && base.Managers[0] == m.cfg.Self {
			return false, p.failed(offered, ctx.Err())
		}
	}
}

// use makes sure that this node proposes nothing else at a ballot, in this life or
// the next, be it a manager or not: the promise not to is its own. A manager has mostly
// given it when it answered its own prepare.
func (m *Manager) use(epoch unkai.Epoch, b decree.Ballot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.settled(); err != nil {
		return err
	}
	next, ok := m.state.For(epoch).Prepare(b)
	if !ok || m.current.Load().Epoch >= epoch { // somebody else was faster: the others will say so
		return nil
	}
	if err := m.promise(next); err != nil {
		return fmt.Errorf("write what was proposed about the next topology: %w", err)
	}
	return nil
}

// attempt is a Proposer with what became of its questions.
type attempt struct {
	decree.Proposer
	base *topology.Topology
	seen decree.Ballot
	errs []error
}

// failed is the error of a change that could not be decided.
func (p *attempt) failed(offered bool, err error) error {
	err = errors.Join(append(p.errs, err)...)
	if n := len(p.errs); n > 0 && len(p.base.Managers) > 1 {
		err = fmt.Errorf("%d of %d managers did not agree, and %d have to; changes of the topology wait, all else goes on: %w",
			n, len(p.base.Managers), decree.Majority(len(p.base.Managers)), err)
	}
	if offered {
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	}
	return err
}

// decided keeps what was chosen and tells the others. They need not wait until it stands
// here: it does at a majority.
func (m *Manager) decided(base *topology.Topology, d *decision) error {
	m.announce(base, d)
	if err := m.keep(d.next, d.steps, false); err != nil {
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	}
	return nil
}

// round asks all managers of the base one thing and counts until it is decided.
// It reports whether somebody knew a newer topology.
func (m *Manager) round(ctx context.Context, p *attempt, q question) (newer bool) {
	m.rounds.Add(1)
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	type reply struct {
		from unkai.NodeID
		a    answer
		err  error
	}
	managers := p.base.Managers
	replies := make(chan reply, len(managers))
	for _, id := range managers {
		if id == m.cfg.Self {
			continue
		}
		m.running.Add(1)
		go func() {
			defer m.running.Done()
			a, err := m.ask(ctx, id, q)
			replies <- reply{id, a, err}
		}()
	}
	waiting := len(managers)
	if slices.Contains(managers, m.cfg.Self) {
		replies <- reply{m.cfg.Self, m.answer(q), nil}
	}
	for waiting > 0 && !p.Enough() && !p.Never() && !newer {
		r := <-replies
		waiting--
		if r.err == nil && r.a.Error != "" {
			r.err = errors.New(r.a.Error)
		}
		switch {
		case r.err != nil:
			p.errs = append(p.errs, fmt.Errorf("%v: %w", r.from, r.err))
			p.Refused(decree.Ballot{})
		case r.a.News != nil:
			if err := m.learn(r.a.News); err != nil {
				p.errs = append(p.errs, err)
				p.Refused(decree.Ballot{})
				continue
			}
			newer = true
		case !r.a.OK:
			p.Refused(r.a.State.Promised)
		case q.Do == prepare:
			p.Promised(r.a.State)
		default:
			p.Accepted()
		}
	}
	return newer
}

// ask asks another manager. One that lacks a topology before it can answer is told of it
// and asked again.
func (m *Manager) ask(ctx context.Context, to unkai.NodeID, q question) (answer, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	a, err := m.put(ctx, to, text)
	if err != nil || a.Lacks == nil {
		return a, err
	}
	m.mu.Lock()
	q.News, err = m.newsFor(*a.Lacks)
	m.mu.Unlock()
	if err == nil {
		text, err = json.Marshal(q)
	}
	if err != nil {
		return answer{}, err
	}
	return m.put(ctx, to, text)
}

// put puts a question that is encoded.
func (m *Manager) put(ctx context.Context, to unkai.NodeID, text []byte) (answer, error) {
	reply, err := m.cfg.Network.Ask(ctx, to, text)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return answer{}, err
	}
	if a.Error != "" && a.Lacks == nil {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

// pause waits before the next try: others may be trying too.
func (m *Manager) pause(ctx context.Context, try int) error {
	most := uint64(10*time.Millisecond) << min(try, 5)
	t := time.NewTimer(time.Duration(m.cfg.Rand() % most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ctx.Done():
		return errClosed
	}
}
