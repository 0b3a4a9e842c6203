package admin

import "time"

// Link is the way from a node to another one, over the connections that it
// opened itself. Counts are from the start of the process.
type Link struct {
	Node string `json:"node"`
	Up   bool   `json:"up"`
	// RoundTrip is that of a greeting, which takes place every second; the mean of
	// the last few. 0: there was none yet.
	RoundTrip float64 `json:"round_trip_seconds"`
	Open      int     `json:"open"`     // questions that wait for their answers
	Waiting   int     `json:"waiting"`  // bytes that wait to be written
	Calls     int64   `json:"calls"`    // questions
	Refused   int64   `json:"refused"`  // questions that could not even be sent
	Timeouts  int64   `json:"timeouts"` // questions without an answer in time
	Lost      int64   `json:"lost"`     // questions whose connection broke
	Connects  int64   `json:"connects"` // connections made
	BytesIn   int64   `json:"bytes_in"`
	BytesOut  int64   `json:"bytes_out"`
}

// Deciding is what a node does as a manager.
type Deciding struct {
	Manager bool  `json:"manager"`
	Lead    bool  `json:"lead"`       // it brings jobs forward
	Leads   int64 `json:"lead_since"` // milliseconds since 1970; 0: it does not
	Rounds  int64 `json:"rounds"`     // of questions to managers
	Learned int64 `json:"learned"`    // topologies
	Since   int64 `json:"since"`      // when the present topology was learned; milliseconds since 1970
}

// Operations counts what became of operations beyond the usual.
type Operations struct {
	Running  int64 `json:"running"`
	Refused  int64 `json:"refused"`  // because too many ran
	Sent     int64 `json:"sent"`     // to other nodes
	Rerouted int64 `json:"rerouted"` // to another node than at first
	Prepared int64 `json:"prepared"` // rounds that had to ask for promises
	Hedged   int64 `json:"hedged"`   // reads for which more replicas were asked than needed
	Moved    int64 `json:"moved"`    // keys brought to other replicas
}

// seconds is d as JSON has it.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

// NewLink is a link of which only this is known.
func NewLink(node string, up bool, roundTrip time.Duration) Link {
	return Link{Node: node, Up: up, RoundTrip: seconds(roundTrip)}
}
