package topology

import (
	"cmp"
	"math"
	"slices"

	"unkai"
)

// Sender is which of a bucket's present replicas brings it to those who join it: the
// first that is there. The others only look whether something is left to bring. False:
// none is there.
func Sender[M any](present []M, there func(M) bool) (sender M, ok bool) {
	if i := slices.IndexFunc(present, there); i >= 0 {
		return present[i], true
	}
	return sender, false
}

// Flow is what one node brings to another. From is 0 where nobody who holds it is alive.
type Flow struct {
	From, To unkai.NodeID
	Amount   Amount
}

// flows is who brings how much to whom of what is on its way, and how much that is in all.
func (t *Topology) flows(size func(unkai.Bucket) int64, dead func(unkai.Seat) bool) (list []Flow, all Amount) {
	for b := range t.Sets {
		s := &t.Sets[b]
		if len(s.Joining) == 0 {
			continue
		}
		bucket := unkai.Bucket(b)
		all.add(s, bucket, size)
		seat, _ := Sender(s.Replicas, func(s unkai.Seat) bool { return !dead(s) })
		from, _ := t.Seated(seat)
		for _, seat := range without(s.Joining, s.Replicas) {
			to, _ := t.Seated(seat)
			i := slices.IndexFunc(list, func(f Flow) bool { return f.From == from.ID && f.To == to.ID })
			if i < 0 {
				i = len(list)
				list = append(list, Flow{From: from.ID, To: to.ID})
			}
			a := &list[i].Amount
			a.Buckets, a.Replicas = a.Buckets+1, a.Replicas+1
			if size != nil {
				a.Bytes += size(bucket)
			}
		}
	}
	slices.SortFunc(list, func(a, b Flow) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return list, all
}

// Pace is by what it is known how long a job takes.
type Pace string

// The paces.
const (
	PaceUnknown  Pace = ""
	PaceThrottle Pace = "throttle" // who brings most brings it at the throttle
	PaceLast     Pace = "last"     // as the last job that had none
)

// telling is how many bytes a job must have moved to tell how fast the next one will be.
const telling = 1 << 20

// Speed is how many bytes in a second the last job that nobody throttled has moved; 0: no
// job can tell.
func (t *Topology) Speed() float64 {
	for i := len(t.History) - 1; i >= 0; i-- {
		if j := &t.History[i]; !j.Throttled && j.Moved.Bytes >= telling && j.Worked() > 0 {
			return float64(j.Moved.Bytes) / float64(j.Worked()) * 1000
		}
	}
	return 0
}

// lasts says how long it takes, in milliseconds, and by what that is known.
func (t *Topology) lasts(flows []Flow) (int64, Pace) {
	brings := map[unkai.NodeID]int64{} // of which only the most counts
	all, most := int64(0), int64(0)
	for _, f := range flows {
		brings[f.From] += f.Amount.Bytes
		all, most = all+f.Amount.Bytes, max(most, brings[f.From])
	}
	speed := t.Speed()
	switch {
	case most == 0:
		return 0, PaceUnknown
	case t.Throttle > 0:
		return int64(math.Ceil(float64(most) / float64(t.Throttle) * 1000)), PaceThrottle
	case speed > 0:
		return int64(math.Ceil(float64(all) / speed * 1000)), PaceLast
	}
	return 0, PaceUnknown
}
