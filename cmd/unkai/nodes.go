package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// asking is a command that asks a node's side door for one page.
func (o *outside) asking(cmd *cobra.Command, run func(ctx context.Context, address string, asJSON bool, args []string) error) *cobra.Command {
	return o.askingFor(statusTimeout, cmd, run)
}

// askingFor is one that may take so long; 0: it has limits of its own.
func (o *outside) askingFor(limit time.Duration, cmd *cobra.Command, run func(ctx context.Context, address string, asJSON bool, args []string) error) *cobra.Command {
	address := node.DefaultConfig().HTTP
	var asJSON bool
	cmd.Flags().StringVar(&address, "http", address, "address for administration of the node, as given to serve")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := settle(cmd.Flags(), o.env); err != nil {
			return usageError{err}
		}
		if address == "" || address == off {
			return usageError{errors.New("http: name the address of a node: it was given as " + off)}
		}
		ctx := cmd.Context()
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		return run(ctx, address, asJSON, args)
	}
	return cmd
}

// page asks a node for a page and reads its JSON into v.
func page(ctx context.Context, address, path string, v any) ([]byte, error) {
	body, err := fetch(ctx, "http://"+address+path)
	if err != nil {
		return nil, fmt.Errorf("ask the node at %s: %w", address, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("the answer of %s was not understood: %w", address, err)
	}
	return body, nil
}

func (o *outside) nodesCommand() *cobra.Command {
	return o.asking(&cobra.Command{
		Use:   "nodes",
		Short: "Show the nodes of a cluster, and what it survives",
		Long: `Ask a node for all nodes of its cluster: how each is, what it holds, and how many
more may fail, whichever they are, before some key cannot be read and written.

SHARE is what a node holds of what it should by its weight, FIRST of how many buckets
it is the first replica, TRIP how long a greeting to it and back takes, and QUEUE how
many questions to it wait for answers; both as the node that is asked sees them.

The exit code is 4 when some keys cannot be read and written now.`,
		Example: `  unkai nodes
  unkai nodes --http 127.0.0.1:11080 --json`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, address string, asJSON bool, _ []string) error {
		var n admin.Nodes
		body, err := page(ctx, address, "/v1/nodes", &n)
		if err != nil {
			return err
		}
		if asJSON {
			err = o.print("%s", body)
		} else {
			err = o.print("%s", describeNodes(&n))
		}
		if err == nil {
			err = lame(n.Unavailable, n.Buckets)
		}
		return err
	})
}

// survival says what may still fail.
func survival(n *admin.Nodes) string {
	switch {
	case n.Unavailable > 0:
		return fmt.Sprintf("%d buckets are unavailable now", n.Unavailable)
	case n.Survives == 0:
		return "no node may fail"
	case n.Survives == 1:
		return "any one more node may fail"
	}
	return fmt.Sprintf("any %d more nodes may fail", n.Survives)
}

func describeNodes(n *admin.Nodes) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s, epoch %d, N:R:W %d:%d:%d, %d buckets", n.Cluster, n.Epoch, n.Quorum.N, n.Quorum.R, n.Quorum.W, n.Buckets)
	if n.Moving > 0 {
		fmt.Fprintf(&b, ", %d of them on their way", n.Moving)
	}
	fmt.Fprintf(&b, ": %s\n", survival(n))
	if n.Job != nil {
		b.WriteString(describeRunning(n.Job))
	}
	b.WriteString("\n")
	t := newTable()
	t.row("NODE", "PEER", "ZONE", "WEIGHT", "STATE", "EPOCH", "BUCKETS", "SHARE", "FIRST", "ITEMS", "BYTES", "CLIENTS", "TRIP", "QUEUE", "NOTE")
	away := map[string]string{} // by address
	for _, m := range n.Nodes {
		if !m.Alive {
			away[m.Peer] = m.ID
		}
	}
	differ := unlike(n.Nodes)
	for _, m := range n.Nodes {
		state := m.State
		if n.Job != nil && attaching(n.Job, m.ID) {
			state = "attaching"
		}
		var notes []string
		note := func(when bool, text string) {
			if when {
				notes = append(notes, text)
			}
		}
		note(m.Manager, "manager")
		note(differ && m.Store != "", kept(&m))
		note(m.State == "leaving" && m.Replicas == 0 && m.Alive && m.Problem == "", "holds nothing any more, still has "+guests(m.Connections))
		note(m.Problem != "", m.Problem)
		note(m.Prospect != nil, m.Prospect.Say())
		before := away[m.Peer]
		note(before != "" && m.Alive && m.State == "recognised", fmt.Sprintf("holds nothing, at the address of %s: if that one's disk is lost, unkai replace %s %s", before, before, m.ID))
		if m.Manual {
			state += ", waits for unkai attach"
		}
		if !m.Alive {
			state += ", away"
		}
		zone := m.Zone
		if zone == "" {
			zone = "-"
		}
		trip, queue := link(m.Link)
		said := []any{"-", "-", "-", "-"} // by itself
		if m.Alive {
			said = []any{m.Epoch, m.Items, amount(m.Bytes), m.Connections}
		}
		t.row(m.ID, m.Peer, zone, m.Weight, state, said[0], holds(&m), share(&m), m.Coordinates, said[1], said[2], said[3], trip, queue, strings.Join(notes, "; "))
	}
	b.WriteString(t.String())
	return b.String()
}

// attaching reports whether a job gives a node its first share.
func attaching(j *admin.Job, id string) bool {
	return j.Kind == "attach" && slices.Contains(j.Nodes, id) || j.Kind == "replace" && len(j.Nodes) == 2 && j.Nodes[1] == id
}

// holds is how many buckets a node holds, and how many come to it and go.
func holds(m *admin.Node) string {
	text := strconv.Itoa(m.Present)
	if m.Joining > 0 {
		text += fmt.Sprintf("+%d", m.Joining)
	}
	if m.Leaving > 0 {
		text += fmt.Sprintf("-%d", m.Leaving)
	}
	return text
}

// share is what a node holds of what it should.
func share(m *admin.Node) string {
	if m.Ideal == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(m.Present)/m.Ideal)
}

// link is the round trip to a node and what waits for it.
func link(l *admin.Link) (trip, queue string) {
	if l == nil {
		return "-", "-"
	}
	if trip = "-"; l.RoundTrip > 0 {
		trip = time.Duration(l.RoundTrip * float64(time.Second)).Round(10 * time.Microsecond).String()
	}
	queue = strconv.Itoa(l.Open)
	if !l.Up {
		queue = "down"
	}
	return trip, queue
}

func (o *outside) locateCommand() *cobra.Command {
	return o.asking(&cobra.Command{
		Use:   "locate KEY…",
		Short: "Show which nodes hold keys",
		Long:  "Ask a node which bucket each key belongs to, which nodes are its replicas, in order,\nand which of them coordinates it now.",
		Example: `  unkai locate cart:7
  unkai locate cart:7 cart:8 --json`,
		Args: cobra.MinimumNArgs(1),
	}, func(ctx context.Context, address string, asJSON bool, keys []string) error {
		var b strings.Builder
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "KEY\tBUCKET\tREPLICAS\tCOORDINATOR") // into memory
		all := make([]admin.Location, len(keys))
		for i, key := range keys {
			l := &all[i]
			if _, err := page(ctx, address, "/v1/locate?key="+url.QueryEscape(key), l); err != nil {
				return err
			}
			replicas := strings.Join(l.Replicas, " ")
			if len(l.Joining) > 0 {
				replicas += " → " + strings.Join(l.Joining, " ")
			}
			coordinator := l.Coordinator
			if coordinator == "" {
				coordinator = "none of them answers"
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", l.Key, l.Bucket, replicas, coordinator) // into memory
		}
		if asJSON {
			return o.printJSON(all)
		}
		_ = w.Flush() // into memory
		return o.print("%s", b.String())
	})
}

func (o *outside) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return o.print("%s\n", b)
}

func (o *outside) explainCommand() *cobra.Command {
	return o.asking(&cobra.Command{
		Use:   "explain KEY",
		Short: "Show what each replica holds of a key",
		Long: `Ask all replicas of a key what they hold: the ballot at which they accepted it, what
they have promised, its expiry, and a checksum. Replicas that differ from the highest
ballot are marked: they have missed something, or it is on its way to them.`,
		Example: "  unkai explain cart:7",
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, address string, asJSON bool, args []string) error {
		var e admin.Explanation
		body, err := page(ctx, address, "/v1/explain?key="+url.QueryEscape(args[0]), &e)
		if err != nil {
			return err
		}
		if asJSON {
			return o.print("%s", body)
		}
		return o.print("%s", describeHeld(&e))
	})
}

// newest is the highest ballot that a replica holds.
func newest(held []admin.Held) string {
	var best string
	var counter, seat uint64
	for _, h := range held {
		var c, s uint64
		if _, err := fmt.Sscanf(h.Ballot, "%d.%d", &c, &s); err == nil && (c > counter || c == counter && s > seat) {
			best, counter, seat = h.Ballot, c, s
		}
	}
	return best
}

func describeHeld(e *admin.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: bucket %d, epoch %d, hash %s, coordinated by %s\n\n", e.Key, e.Bucket, e.Epoch, e.Hash, e.Coordinator)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NODE\tHOLDS\tBALLOT\tPROMISED\tEPOCH\tCAS\tEXPIRES\tSIZE\tCHECKSUM\t") // into memory
	best := newest(e.Held)
	for _, h := range e.Held {
		if h.Error != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", h.Node, h.Error) // into memory
			continue
		}
		holds, expires, mark := "nothing", "never", ""
		switch {
		case h.Flushed:
			holds = "an item that was flushed"
		case h.Tombstone:
			holds = "a tombstone"
		case h.Exists:
			holds = "an item"
		}
		if h.Expiry != 0 {
			expires = time.UnixMilli(h.Expiry).UTC().Format(time.RFC3339)
		}
		if h.Ballot != best && best != "" {
			mark = "DIFFERS"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\t%s\n", h.Node, holds, h.Ballot, h.Promise, h.Epoch, h.CAS, expires, h.Size, h.Checksum, mark) // into memory
	}
	_ = w.Flush() // into memory
	return b.String()
}

// guests says how many clients a node has.
func guests(n int64) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}
