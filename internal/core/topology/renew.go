package topology

import "unkai"

// Renewal is a bucket in which a replica has forgotten what it promised and accepted of
// some keys, and the epoch in which it noticed.
type Renewal struct {
	Bucket unkai.Bucket
	Epoch  unkai.Epoch
}

// Renew is the topology in which buckets have the same replicas in a new epoch: what was
// begun under the one before, and relies on what was forgotten, is refused from then on
// (docs/decisions/0019). A bucket on its way to a joining set is sent back, as by Cancel, and
// goes again when the others have arrived: if too many of those who hold it have forgotten
// something it would never arrive. Whoever can, should wait for that (Spares): all that was
// brought of it is forgotten. Buckets that have had a new epoch since, or are leaving a
// set and will get one, are left alone. It reports false when that is all of them.
func (t *Topology) Renew(renewals []Renewal) (Topology, bool) {
	next := t.next()
	any := false
	for _, r := range renewals {
		if int(r.Bucket) >= len(next.Sets) {
			continue
		}
		s := &next.Sets[r.Bucket]
		switch running := t.Job != nil && t.Job.Outcome == Running; {
		case max(s.Epoch, t.Flushed) > r.Epoch:
			continue
		case s.atRest():
			s.Epoch = next.Epoch
		case len(s.Joining) > 0 && running:
			*s = Set{Epoch: next.Epoch, Replicas: s.Replicas, Strays: next.strays(s, s.Joining)}
			next.Job.Held = true
		default:
			continue
		}
		any = true
	}
	return next, any
}
