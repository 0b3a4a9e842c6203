package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/decree"
	"unkai/internal/core/topology"
)

// What managers ask each other.
const (
	prepare = "prepare" // promise a ballot of the epoch after Base
	accept  = "accept"  // accept Value at a ballot of that epoch
	tell    = "tell"    // this topology was decided
	fetch   = "fetch"   // which topology do you know?
)

// question is what one manager asks another, in JSON: there are few of them.
type question struct {
	Do     string        `json:"do"`
	Epoch  unkai.Epoch   `json:"epoch,omitempty"` // the one to be decided
	Ballot decree.Ballot `json:"ballot"`
	Value  []byte        `json:"value,omitempty"`
	// Known is which topology the asker knows; the decided one before Epoch.
	Known mark `json:"known"`
	// News are for who has said that it does not know that, or of what was decided.
	News *news `json:"news,omitempty"`
}

// answer is what the other says. News are what the asker does not know. Lacks is what
// the other knows where it has to be told more before it can answer.
type answer struct {
	OK    bool         `json:"ok"`
	State decree.State `json:"state"`
	News  *news        `json:"news,omitempty"`
	Lacks *mark        `json:"lacks,omitempty"`
	Error string       `json:"error,omitempty"`
}

// Serve answers a question of another node's manager. What it agrees to is
// durable before it answers.
func (m *Manager) Serve(_ unkai.NodeID, text []byte) []byte {
	var q question
	a := answer{}
	if err := json.Unmarshal(text, &q); err != nil {
		a.Error = "not understood: " + err.Error()
	} else {
		a = m.answer(q)
	}
	out, err := json.Marshal(a)
	if err != nil {
		m.cfg.Log.Error("an answer to another manager cannot be encoded", "err", err)
		return nil
	}
	return out
}

func (m *Manager) answer(q question) (a answer) {
	err := m.learn(q.News)
	if err == nil {
		switch q.Do {
		case prepare, accept:
			a, err = m.vote(q)
		case tell:
		case fetch:
			m.mu.Lock()
			a.News, err = m.newsFor(q.Known)
			m.mu.Unlock()
		default:
			err = fmt.Errorf("%q is no question", q.Do)
		}
	}
	if errors.Is(err, errGap) {
		known := markOf(m.current.Load())
		a.Lacks = &known
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

var errStranger = errors.New("it is no manager of that epoch")

// promise makes a state durable, unless it is. The lock is held.
func (m *Manager) promise(next decree.State) error {
	if m.stands && next.Epoch == m.state.Epoch && next.Promised == m.state.Promised && next.Accepted == m.state.Accepted {
		return nil
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = m.cfg.Decree.Save(append(text, '\n'))
	}
	if err == nil || errors.Is(err, ErrUncertain) {
		m.state = next // in doubt it may be what stands after a restart; saying less is safe
		m.stands = err == nil
	}
	return err
}

// vote answers a question about the next epoch, if that is the one it is about.
func (m *Manager) vote(q question) (answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.settled()
	if err != nil {
		return answer{}, err
	}
	t := m.current.Load()
	switch {
	case q.Epoch <= t.Epoch:
		n, err := m.newsFor(q.Known)
		return answer{News: n}, err
	case q.Epoch != t.Epoch+1 || q.Known != markOf(t):
		return answer{}, errGap
	case !slices.Contains(t.Managers, m.cfg.Self):
		return answer{}, errStranger
	}
	if q.Do == accept {
		// What is accepted may be chosen, and this manager may be who tells of it.
		if epoch, sum, err := topology.Base(q.Value); err == nil {
			if (mark{epoch, sum}) != markOf(t) {
				return answer{}, errGap
			}
			if _, err := t.Follow(q.Value); err != nil {
				return answer{}, fmt.Errorf("accept a change of the topology: %w", err)
			}
		}
	}
	was := m.state.For(q.Epoch)
	next, ok := was.Prepare(q.Ballot)
	if q.Do == accept {
		next, ok = was.Accept(q.Ballot, q.Value)
	}
	if !ok {
		return answer{State: decree.State{Promised: was.Promised}}, nil
	}
	if err := m.promise(next); err != nil {
		return answer{}, fmt.Errorf("write what was promised about the next topology: %w", err)
	}
	if q.Do == accept {
		return answer{OK: true}, nil
	}
	return answer{OK: true, State: was}, nil
}
