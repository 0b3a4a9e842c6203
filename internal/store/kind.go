package store

import "fmt"

// Kind is what a record holds.
type Kind uint8

// The kinds of records.
const (
	KindNone    Kind = iota // the key was never heard of, or is forgotten
	KindPromise             // nothing was accepted yet
	KindTombstone
	KindItem
)

// Kind of the record.
func (r *Record) Kind() Kind {
	switch {
	case r.Tombstone:
		return KindTombstone
	case r.Ballot != 0:
		return KindItem
	case r.Promise != 0:
		return KindPromise
	default:
		return KindNone
	}
}

// Check says what is wrong with a record that is to be kept. The error is
// ErrInvalid, wrapped with the reason.
func (r *Record) Check() error {
	switch {
	case r.Promise < r.Ballot:
		return fmt.Errorf("%w: promise %v is below the accepted %v", ErrInvalid, r.Promise, r.Ballot)
	case r.Promise == 0:
		return fmt.Errorf("%w: it says nothing", ErrInvalid)
	case r.Tombstone && r.Ballot == 0:
		return fmt.Errorf("%w: a tombstone that was not accepted", ErrInvalid)
	case r.Tombstone || r.Ballot == 0:
		it := &r.Item
		if len(it.Value) > 0 || it.Flags != 0 || it.Expiry != 0 || it.CAS != 0 || it.Stale || it.Won {
			return fmt.Errorf("%w: an item where there is none", ErrInvalid)
		}
	}
	return nil
}
