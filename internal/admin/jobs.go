package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// Operator is what can be asked of a cluster. Each method may ask other nodes,
// and ends with ctx.
type Operator interface {
	// Plan tells what a change would do, and does nothing.
	Plan(ctx context.Context, w Wish) (Plan, error)
	// Begin begins a job, or tells of the one that does the same already.
	Begin(ctx context.Context, w Wish) (Job, error)
	Jobs(ctx context.Context) (Jobs, error)
	// Steer changes how the running job goes on.
	Steer(ctx context.Context, o Order) (Jobs, error)
	// Repair has all nodes compare their buckets now, and mend what differs.
	Repair(ctx context.Context, w RepairWish) (RepairRun, error)
	// Repaired tells how far a repair is; "": the last one that the node was asked for.
	Repaired(ctx context.Context, id string) (RepairRun, error)
}

// Wish is the JSON that asks for a plan, or for a job.
type Wish struct {
	Kind string `json:"kind"` // attach, detach, replace, weigh, rebalance
	// Nodes are ids, unique beginnings of ids, or addresses for other nodes. For
	// replace they are the old one and the new one.
	Nodes  []string `json:"nodes,omitempty"`
	Weight int      `json:"weight,omitempty"` // 0: as it is
	Zone   *string  `json:"zone,omitempty"`   // null: as it is
	// Epoch of the plan that was agreed to: the job begins only if that is the
	// present one still. 0: whatever it is.
	Epoch uint32 `json:"epoch,omitempty"`
	// GiveUpLost lets buckets that have lost their quorum for good go on with what is
	// left, without what the nodes that are detached alone hold. For detach and
	// rebalance.
	GiveUpLost bool `json:"give_up_lost,omitempty"`
	// Force begins it even if buckets that work now cannot move, and stay where they
	// are, until more nodes are alive.
	Force bool `json:"force,omitempty"`
}

// Order is the JSON that steers the running job.
type Order struct {
	Do string `json:"do"` // pause, resume, cancel, throttle, auto-replace
	// Job is the one that is meant; 0: whichever runs.
	Job int `json:"job,omitempty"`
	// Throttle is in bytes a second for each node; 0: none. To throttle wants it said.
	Throttle int64 `json:"throttle"`
	// AutoReplace is after how many seconds of silence a node is replaced by itself; 0:
	// never. To auto-replace wants it said.
	AutoReplace *float64 `json:"auto_replace_seconds,omitempty"`
}

// Amount is how much moves.
type Amount struct {
	Buckets  int   `json:"buckets"`
	Replicas int   `json:"replicas"`
	Bytes    int64 `json:"bytes"`
}

// Plan is the JSON of a plan. Bytes are estimates.
type Plan struct {
	Kind   string   `json:"kind"`
	Nodes  []string `json:"nodes"`
	Peers  []string `json:"peers,omitempty"` // where each of them was seen last; "": nobody knows
	Weight int      `json:"weight,omitempty"`
	Zone   *string  `json:"zone,omitempty"`
	Epoch  uint32   `json:"epoch"`
	Quorum struct {
		Before Quorum `json:"before"`
		After  Quorum `json:"after"`
	} `json:"quorum"`
	Moves  Amount  `json:"moves"`
	Flows  []Flow  `json:"flows"`
	Shares []Share `json:"shares"`
	// Survives is how many more nodes may fail, whichever they are, and SurvivesZones how
	// many whole zones; null: there are none.
	Survives      Survived  `json:"survives"`
	SurvivesZones *Survived `json:"survives_zones"`
	// Throttle is in bytes a second for each node; 0: there is none. Seconds is what the
	// job takes, about, by the throttle or by the last job that had none; 0: nobody knows.
	Throttle  int64    `json:"throttle"`
	Seconds   float64  `json:"seconds"`
	SecondsBy string   `json:"seconds_by,omitempty"` // throttle, last
	Warnings  []string `json:"warnings"`
	// GivenUp are the buckets that may lose acknowledged writes.
	GivenUp int `json:"given_up,omitempty"`
	// Already says that it is so, or that the running job does it; then nothing is planned.
	Already string `json:"already,omitempty"`
}

// Survived is how many may fail before, during and after a change before some keys cannot be
// read and written; -1: some cannot be anyway.
type Survived struct {
	Before int `json:"before"`
	During int `json:"during"`
	After  int `json:"after"`
}

// Flow is what one node brings to another.
type Flow struct {
	From     string `json:"from"` // "": nobody who is alive
	FromPeer string `json:"from_peer,omitempty"`
	To       string `json:"to"`
	ToPeer   string `json:"to_peer,omitempty"`
	Buckets  int    `json:"buckets"`
	Bytes    int64  `json:"bytes"`
}

// Share is what a plan means for one node.
type Share struct {
	Node   string  `json:"node"`
	Peer   string  `json:"peer"`
	State  string  `json:"state"` // afterwards
	Weight int     `json:"weight"`
	Before int     `json:"replicas_before"`
	After  int     `json:"replicas_after"`
	Ideal  float64 `json:"replicas_ideal"` // afterwards, by its weight
	// IdealBefore is what it should have held so far.
	IdealBefore float64 `json:"replicas_ideal_before"`
	// Bytes are those of keys and values, and Store what the store takes for them on the
	// disk or in memory, by what it takes now; 0: nobody knows.
	Bytes Volume `json:"bytes"`
	Store Volume `json:"store"`
}

// Volume is how much a node holds before a change and after it, and at most meanwhile.
type Volume struct {
	Before int64 `json:"before"`
	Peak   int64 `json:"peak"`
	After  int64 `json:"after"`
}

// Jobs is the JSON of /v1/jobs.
type Jobs struct {
	Epoch    uint32 `json:"epoch"`
	Throttle int64  `json:"throttle"` // bytes a second for each node; 0: none
	// AutoReplace is after how many seconds of silence a node is replaced by itself; 0:
	// never.
	AutoReplace float64 `json:"auto_replace_seconds"`
	Running     *Job    `json:"running"` // null: none
	Ended       []Job   `json:"ended"`   // the last ones, the latest at the end
}

// Job is one of them.
type Job struct {
	ID     int      `json:"id"` // 0: nothing was to be done
	Kind   string   `json:"kind"`
	Nodes  []string `json:"nodes"`
	Peers  []string `json:"peers,omitempty"` // where each of them was seen last; "": nobody knows
	Weight int      `json:"weight,omitempty"`
	Zone   *string  `json:"zone,omitempty"`
	Auto   bool     `json:"auto"` // nobody has asked for it
	State  string   `json:"state"`
	// Missed are the nodes for whose silence the cluster itself has cancelled it; none: an
	// operator has, if it was.
	Missed  []string `json:"missed,omitempty"`
	Begun   int64    `json:"begun"` // milliseconds since 1970
	Ended   int64    `json:"ended,omitempty"`
	Planned Amount   `json:"planned"`
	Moved   Amount   `json:"moved"`
	// Expected is how many seconds it was thought to take, without pauses; 0: nobody knew.
	// Rested is for how long it was paused.
	Expected float64 `json:"seconds_expected,omitempty"`
	Rested   float64 `json:"seconds_paused,omitempty"`
	// Progress is the part of the replicas that has moved, from 0 to 1, or of the buckets
	// when there are only to be fewer replicas, and Left
	// the seconds that the rest will take if it goes on as lately; 0: nobody knows, as
	// while it is paused, or waits for somebody.
	Progress float64 `json:"progress"`
	Left     float64 `json:"seconds_left,omitempty"`
	// Rate is how many bytes it has moved in a second, in the mean of the last half minute.
	Rate float64 `json:"bytes_per_second,omitempty"`
	// Waits is what a job that runs waits for.
	Waits []string `json:"waits,omitempty"`
	// Slowed are the nodes that bring less than they could, for their clients' sake or
	// their receivers'.
	Slowed []Slowed `json:"slowed,omitempty"`
}

// Slowed is a node that brings less than it could.
type Slowed struct {
	Node   string  `json:"node"`
	Rate   int64   `json:"bytes_per_second"` // at which it may
	Strain float64 `json:"strain"`           // how many times as long as without it clients wait
	Disk   bool    `json:"disk"`             // a receiver's is slow
}

// The states of a job.
const (
	JobRunning    = "running"
	JobPaused     = "paused"
	JobCancelling = "cancelling"
	JobDone       = "done"
	JobCancelled  = "cancelled"
)

// ErrConflict says that something cannot be done now, as the cluster is.
var ErrConflict = errors.New("not now")

// maxBody is how long a request may be.
const maxBody = 64 << 10

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	var wish Wish
	s.told(w, r, &wish, func() (any, error) { return s.cfg.Operator.Plan(r.Context(), wish) })
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	var wish Wish
	s.told(w, r, &wish, func() (any, error) { return s.cfg.Operator.Begin(r.Context(), wish) })
}

func (s *Server) jobs(w http.ResponseWriter, r *http.Request) {
	s.answer(w, func() (any, error) { return s.cfg.Operator.Jobs(r.Context()) })
}

func (s *Server) steer(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Order
		Throttle *int64 `json:"throttle"`
	}
	s.told(w, r, &o, func() (any, error) {
		switch {
		case o.Do == "throttle" && o.Throttle == nil:
			return nil, fmt.Errorf("%w: say how many bytes a second, or 0 for no throttle", ErrBadRequest)
		case o.Do == "auto-replace" && o.AutoReplace == nil:
			return nil, fmt.Errorf("%w: say after how many seconds, or 0 for never", ErrBadRequest)
		}
		if o.Throttle != nil {
			o.Order.Throttle = *o.Throttle
		}
		return s.cfg.Operator.Steer(r.Context(), o.Order)
	})
}

// told reads a request's JSON into v before it answers. No page in somebody's
// browser may ask for anything: it cannot send the type that is wanted to another
// host unasked, and where it makes its own name point here, the browser says whose
// page it is.
func (s *Server) told(w http.ResponseWriter, r *http.Request, v any, f func() (any, error)) {
	s.answer(w, func() (any, error) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			return nil, fmt.Errorf("%w: this is not for browsers", ErrBadRequest)
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return nil, fmt.Errorf("%w: send JSON, with Content-Type: application/json", ErrBadRequest)
		}
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: there is something after the JSON", ErrBadRequest)
		}
		return f()
	})
}
