package topology

import (
	"slices"

	"unkai"
)

// Amount is how much moves.
type Amount struct {
	Buckets  int   `json:"buckets"`
	Replicas int   `json:"replicas"` // of these buckets, that others had not held
	Bytes    int64 `json:"bytes"`
}

func (a *Amount) add(s *Set, b unkai.Bucket, size func(unkai.Bucket) int64) {
	fresh := len(without(s.Joining, s.Replicas))
	a.Buckets++
	a.Replicas += fresh
	if size != nil {
		a.Bytes += int64(fresh) * size(b)
	}
}

// guess is size, where that is known, and else what a bucket of the plan holds in the mean.
func (j *Job) guess(size func(unkai.Bucket) int64) func(unkai.Bucket) int64 {
	if size == nil {
		return nil
	}
	return func(b unkai.Bucket) int64 {
		if n := size(b); n >= 0 {
			return n
		}
		return j.Planned.Bytes / int64(max(1, j.Planned.Replicas))
	}
}

// plan adds what is on its way to the job's plan.
func (t *Topology) plan(size func(unkai.Bucket) int64) {
	for b := range t.Sets {
		if s := &t.Sets[b]; len(s.Joining) > 0 {
			t.Job.Planned.add(s, unkai.Bucket(b), size)
		}
	}
}

// expect notes how long the job that begins is thought to take.
func (t *Topology) expect(size func(unkai.Bucket) int64, gone []unkai.NodeID) {
	flows, _ := t.flows(size, func(seat unkai.Seat) bool {
		n, ok := t.Seated(seat)
		return !ok || slices.Contains(gone, n.ID)
	})
	t.Job.Expected, _ = t.lasts(flows)
	t.Job.Throttled = t.Throttle > 0
}

// Worked is for how many milliseconds a job that has ended was not paused.
func (j *Job) Worked() int64 { return j.Ended - j.Begun - j.Rested }

// rest ends a pause, if there is one.
func (j *Job) rest(now int64) {
	if j.Since != 0 {
		j.Rested, j.Since = j.Rested+max(0, now-j.Since), 0
	}
}
