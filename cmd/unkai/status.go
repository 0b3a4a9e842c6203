package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
	"unkai/internal/node"
)

const (
	statusTimeout = 5 * time.Second
	maxStatus     = 16 << 20 // bytes; a plan for many nodes is long
)

func (o *outside) statusCommand() *cobra.Command {
	address := node.DefaultConfig().HTTP
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask a node how it is, and what its cluster survives",
		Long: `Ask a node how it is, by its address for administration, and what its cluster
survives at this moment as far as that node sees it: how many nodes or zones may
fail before some key cannot be read and written, whether nodes may be restarted now,
which nodes have to come back where too few answer, and how far a job is.

The exit code is 0 when the node serves and all keys can be read and written; 1
when it does not serve or cannot be reached; 4 when some keys cannot be now.`,
		Example: `  unkai status
  unkai status --http 127.0.0.1:11080 --json
  UNKAI_HTTP=127.0.0.1:9000 unkai status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := settle(cmd.Flags(), o.env); err != nil {
				return usageError{err}
			}
			return o.status(cmd.Context(), address, asJSON)
		},
	}
	cmd.Flags().StringVar(&address, "http", address, "address for administration of the node, as given to serve")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (o *outside) status(ctx context.Context, address string, asJSON bool) error {
	if address == "" || address == off {
		return usageError{errors.New("http: name the address of a node: it was given as " + off)}
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	body, err := fetch(ctx, "http://"+address+"/v1/status")
	if err != nil {
		return fmt.Errorf("ask the node at %s: %w", address, err)
	}
	var s admin.Status
	if err := json.Unmarshal(body, &s); err != nil || s.State == "" {
		return fmt.Errorf("the answer of %s is not the status of a node", address)
	}
	if asJSON {
		err = o.print("%s", body)
	} else {
		err = o.print("%s", describe(&s))
	}
	if err == nil && !s.Ready {
		err = fmt.Errorf("the node at %s does not serve: %s", address, s.State)
	}
	if err == nil && s.Survival != nil {
		err = lame(s.Survival.Unavailable, s.Survival.Buckets)
	}
	return err
}

// lame is the error of a cluster some of whose buckets have no quorum.
func lame(unavailable, buckets int) error {
	if unavailable == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d buckets cannot be read and written now: %w", unavailable, buckets, errNoQuorum)
}

var errNoQuorum = errors.New("too few of their replicas answer")

func fetch(ctx context.Context, page string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return nil, err
	}
	code, body, err := exchange(r)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("it answers %d %s: %s", code, http.StatusText(code), strings.TrimSpace(string(body)))
	}
	return body, err
}

// exchange asks a node, straight, whatever proxy the environment names.
func exchange(r *http.Request) (code int, body []byte, err error) {
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		var long *url.Error // repeats the address
		if errors.As(err, &long) {
			err = long.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus+1))
	if err == nil && len(body) > maxStatus {
		err = fmt.Errorf("the answer is longer than %d bytes", maxStatus)
	}
	return resp.StatusCode, body, err
}

// describe writes a status for people.
func describe(s *admin.Status) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...))) // into memory
	}
	up := time.Duration(s.Uptime * float64(time.Second)).Round(time.Second)
	line("state", "%s, for %v", s.State, up)
	line("node", "%s, unkai %s", s.Node, s.Version)
	if s.Problem != "" {
		line("PROBLEM", "%s", s.Problem)
	}
	line("clients at", "%s", s.Addresses.Listen)
	if s.Addresses.Peer != "" {
		line("other nodes at", "%s", s.Addresses.Peer)
	}
	if s.Zone != "" {
		line("zone", "%s", s.Zone)
	}
	if s.Quorum != nil {
		line("cluster", "epoch %d, incarnation %d, %d buckets, N:R:W %d:%d:%d",
			s.Epoch, s.Incarnation, s.Buckets, s.Quorum.N, s.Quorum.R, s.Quorum.W)
	}
	if st := s.Store; st != nil {
		line("store", "%s, sync %s", st.Kind, st.Sync)
		line("items", "%d, %s of keys and values; %d tombstones", st.Items, amount(st.Bytes), st.Tombstones)
		if st.Limit > 0 {
			line("space", "%s of %s taken", amount(st.Used), amount(st.Limit))
		} else {
			line("space", "%s taken", amount(st.Used))
		}
		if st.Full {
			room := "make room on its disk, or delete keys"
			if st.Kind == node.Memory {
				room = "delete keys"
			}
			line("FULL", "growth is refused here, reads and deletes work: %s", room)
		}
		if st.Damaged > 0 {
			line("DAMAGED", "%d times a record was found damaged; see the log%s", st.Damaged, healed(s.Repair))
			if s.Repair != nil && s.Repair.Oldest > lately {
				line("", "if that does not end: stop this node, empty its store, start it again; it begins anew with what the others hold")
			}
		}
	}
	if c := s.Clients; c != nil {
		line("connections", "%d of %d, %d turned away", c.Connections, c.MaxConnections, c.Rejected)
		line("reads", "%d, %s", c.Counts["cmd_get"], hitRate(c.Counts["get_hits"], c.Counts["get_misses"]))
		line("stores", "%d", c.Counts["cmd_set"])
		line("failures", "%d answered with SERVER_ERROR", c.Failures)
	}
	if s.Survival != nil {
		for _, l := range s.Survival.Say() {
			line(l[0], "%s", l[1])
		}
	}
	if s.AutoReplace != nil {
		line("dead nodes", "%s", autoReplace(*s.AutoReplace))
	}
	for _, p := range s.Prospects {
		line("by itself", "node %s is %s", p.Node, p.Say())
	}
	if r := s.Repair; r != nil {
		line("replicas", "%s", verifiedLast(r))
		for _, w := range r.Waits {
			line("forgetting", "%d tombstones (%s) wait: %s", w.Items, amount(w.Bytes), waitsFor(&w))
		}
		line("mended", "%d records taken over here and %d by others, %d keys settled by a round, since the start", r.Adopted, r.Brought, r.Settled)
	}
	if d := s.Deciding; d != nil && d.Lead {
		line("lead", "this node brings jobs forward, since %s", time.UnixMilli(d.Leads).UTC().Format(time.RFC3339))
	}
	_ = w.Flush() // into memory
	if s.Job != nil {
		b.WriteString(describeRunning(s.Job))
	}
	return b.String()
}

// healed says what has become of damage.
func healed(r *admin.RepairStatus) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("; %d healed, %d keys not yet", r.Healed, r.Damaged)
}

// waitsFor says what tombstones wait for.
func waitsFor(w *admin.Waits) string {
	switch w.Why {
	case "away":
		return fmt.Sprintf("node %s has to answer: bring it back, or unkai replace it", w.Node)
	case "silent":
		return fmt.Sprintf("node %s is there and did not answer; it is asked again", w.Node)
	case "moving":
		return "their buckets are on their way"
	case "lost":
		return "a replica of their buckets was lost, and no node has its place: unkai rebalance gives it to one"
	case "due":
		return "what they waited for is over; the next sweep, within seconds, looks at them again"
	}
	return fmt.Sprintf("node %s may hold something older; repair will see to it", w.Node)
}

// lately is after what time a bucket should have been found equal again.
const lately = 60

// verifiedLast says for how long buckets were not found equal.
func verifiedLast(r *admin.RepairStatus) string {
	differ := ""
	if r.Unreconciled > 0 {
		differ = fmt.Sprintf("; %d keys differed at the last look", r.Unreconciled)
	}
	switch {
	case r.Bucket == nil:
		return "this node compares no buckets, others do"
	case r.Oldest > lately:
		return fmt.Sprintf("NOT VERIFIED: bucket %d was not found equal everywhere for %s%s", *r.Bucket, span(r.Oldest), differ)
	}
	return fmt.Sprintf("no bucket that this node compares has waited longer than %s to be found equal everywhere%s", span(max(1, r.Oldest)), differ)
}

func hitRate(hits, misses int64) string {
	if hits+misses == 0 {
		return "no hits or misses yet"
	}
	return fmt.Sprintf("%.1f %% hits", 100*float64(hits)/float64(hits+misses))
}

// amount is a number of bytes, rounded, in a unit that suits it.
func amount(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	x, units := float64(n)/1024, "KMGTPE"
	for x >= 1024 {
		x, units = x/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", x, units[0])
}
