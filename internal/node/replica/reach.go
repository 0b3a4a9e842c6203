package replica

import (
	"errors"
	"fmt"

	"unkai"
)

// HighestFloor bounds the counters of what is believed to have been forgotten: three
// quarters of all that there are. A floor is never lowered, and from its bucket it goes on
// to whoever gets that; one near the end would leave the keys that are not held there
// without any ballot. Clocks lead no further than to the middle; from there on counters
// rise by a stride for each round of a key, or by what a start reserves, so that no bucket
// comes up to here. No lower bound is sure: a busy key's counters may run ahead of every
// clock.
const HighestFloor = 3 << 46

// highestBallot bounds the counters of ballots that another node tells of: seven eighths.
// Between the highest floor and this there is room for the keys of a bucket whose floor
// somebody has raised as far as it goes.
const highestBallot = 7 << 45

// errTooHigh: no node comes to such a ballot.
var errTooHigh = errors.New("a ballot is out of reach: no node can have come to it")

// CheckReach says whether ballots that another node tells of are out of reach. Whoever
// took one over would promise it, refuse all that is lower, and when the key is forgotten
// make it the floor of its bucket.
func CheckReach(ballots ...unkai.Ballot) error {
	for _, b := range ballots {
		if b.Counter() > highestBallot {
			return fmt.Errorf("%w: %v", errTooHigh, b)
		}
	}
	return nil
}
