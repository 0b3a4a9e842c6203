package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"unkai"
	"unkai/internal/core/decree"
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
	Do     string          `json:"do"`
	Epoch  unkai.Epoch     `json:"epoch,omitempty"` // the one to be decided
	Ballot decree.Ballot   `json:"ballot"`
	Value  json.RawMessage `json:"value,omitempty"`
	// Base is the decided topology before Epoch, for who does not know it.
	Base json.RawMessage `json:"base,omitempty"`
}

// answer is what the other says. Decided is a topology that the asker may not
// know.
type answer struct {
	OK      bool            `json:"ok"`
	State   decree.State    `json:"state"`
	Decided json.RawMessage `json:"decided,omitempty"`
	Error   string          `json:"error,omitempty"`
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
	var err error
	switch q.Do {
	case prepare, accept:
		if err = m.learn(q.Base); err == nil {
			a, err = m.vote(q)
		}
	case tell:
		err = m.learn(q.Value)
	case fetch:
		m.mu.Lock()
		if err = m.settled(); err == nil {
			a.Decided = m.text
		}
		m.mu.Unlock()
	default:
		err = fmt.Errorf("%q is no question", q.Do)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

var (
	errBehind   = errors.New("it does not know the topology before that epoch")
	errStranger = errors.New("it is no manager of that epoch")
)

// promise makes a state durable. The lock is held.
func (m *Manager) promise(next decree.State) error {
	text, err := json.Marshal(next)
	if err == nil {
		err = m.cfg.Decree.Save(append(text, '\n'))
	}
	if err == nil || errors.Is(err, ErrUncertain) {
		m.state = next // in doubt it may be what stands after a restart; saying less is safe
	}
	return err
}

// vote answers a question about the next epoch, if that is the one it is about.
func (m *Manager) vote(q question) (answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.settled(); err != nil {
		return answer{}, err
	}
	t := m.current.Load()
	switch {
	case q.Epoch <= t.Epoch:
		return answer{Decided: m.text}, nil
	case q.Epoch != t.Epoch+1:
		return answer{}, errBehind
	case !slices.Contains(t.Managers, m.cfg.Self):
		return answer{}, errStranger
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
