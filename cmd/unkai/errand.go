package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// errand is a change that an operator can ask for, and for its plan.
type errand struct {
	kind, use, short, long, example string
	args                            cobra.PositionalArgs
	wish                            func(args []string) (admin.Wish, error)
	givesUp                         bool // it may give up what is lost
}

// named is a wish about the nodes that the arguments name.
func named(kind string) func([]string) (admin.Wish, error) {
	return func(args []string) (admin.Wish, error) { return admin.Wish{Kind: kind, Nodes: args}, nil }
}

var errands = []errand{
	{
		"attach", "attach NODE…", "Give nodes their share",
		`Give nodes that have joined their share of the buckets. Nodes do that by themselves
two seconds after they have joined, unless they were started with --attach manual,
or an attachment was cancelled.`,
		"  unkai attach 10.0.0.4:11011\n  unkai attach 7f3a 91c0 --yes --wait",
		cobra.MinimumNArgs(1), named("attach"), false,
	},
	{
		"detach", "detach NODE…", "Take nodes out of the cluster",
		`Take nodes out of the cluster. What a node that is alive holds is brought to others
while it goes on serving; of one that is dead, the other replicas bring it. Then the
node is removed: its process ends, and it can come back only as a new node, with an
empty data directory. Point its clients elsewhere: it goes on answering them until
they have left, for a minute at most.`,
		"  unkai detach 10.0.0.2:11011\n  unkai detach 7f3a --yes --wait",
		cobra.MinimumNArgs(1), named("detach"), true,
	},
	{
		"replace", "replace OLD NEW", "Let one node take the place of another",
		`Let a node that has joined, and holds nothing yet, take over all that another one
holds, and its weight. No other bucket moves; the old node is removed at the end,
when its clients have left it, or a minute after it holds nothing any more.
Start the new one with --attach manual. The old one may be alive or dead.`,
		"  unkai serve --join 10.0.0.1:11011 --attach manual …\n  unkai replace 10.0.0.2:11011 10.0.0.5:11011",
		cobra.ExactArgs(2), named("replace"), false,
	},
	{
		"weigh", "weigh NODE WEIGHT", "Change a node's share",
		`Change a node's weight: its share of the buckets, against that of other nodes.`,
		"  unkai weigh 10.0.0.2:11011 3",
		cobra.ExactArgs(2), func(args []string) (admin.Wish, error) {
			weight, err := strconv.Atoi(args[1])
			if err != nil || weight < 1 {
				return admin.Wish{}, usageError{fmt.Errorf("%q is no weight: want a number from 1 on", args[1])}
			}
			return admin.Wish{Kind: "weigh", Nodes: args[:1], Weight: weight}, nil
		}, false,
	},
	{
		"rezone", "rezone NODE ZONE", "Put a node into another zone",
		`Tell what a node may fail together with: its zone, a rack or a site. Replicas of a
key are spread over zones, so buckets move until that is so again.`,
		"  unkai rezone 10.0.0.2:11011 rack7",
		cobra.ExactArgs(2), func(args []string) (admin.Wish, error) {
			return admin.Wish{Kind: "weigh", Nodes: args[:1], Zone: &args[1]}, nil
		}, false,
	},
	{
		"rebalance", "rebalance", "Bring every bucket to where it belongs",
		`Bring every bucket to where the placement wants it. That is where it is, except
after a job was cancelled in the middle.`,
		"  unkai rebalance",
		cobra.NoArgs, named("rebalance"), true,
	},
}

const nodeHelp = `

NODE is an id as unkai nodes shows it, the unique beginning of one, or the address of
a node for other nodes.`

func (o *outside) planCommand() *cobra.Command {
	plan := &cobra.Command{
		Use:   "plan",
		Short: "Show what a change of the nodes would do",
		Long: `Show what a change would do, and do nothing: what moves from where to where, what
each node holds before and after it and at most, what may fail meanwhile, and how long
it takes at the present throttle. Bytes are estimates: those of a node, spread over its
buckets.`,
		Example: "  unkai plan detach 10.0.0.2:11011\n  unkai plan weigh 7f3a 3 --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, e := range errands {
		var giveUp bool
		sub := o.askingFor(changeTimeout, &cobra.Command{
			Use: e.use, Short: "Show what it would do to: " + strings.ToLower(e.short[:1]) + e.short[1:],
			Long: e.long + nodeHelp + "\n\nNothing is done: this shows the plan.", Example: "  unkai plan " + e.use, Args: e.args,
		}, func(ctx context.Context, address string, asJSON bool, args []string) error {
			wish, err := e.wish(args)
			if err != nil {
				return err
			}
			wish.GiveUpLost = giveUp
			var p admin.Plan
			body, err := post(ctx, address, "/v1/plan", wish, &p)
			if err != nil {
				return err
			}
			if asJSON {
				return o.print("%s", body)
			}
			return o.print("%s", describePlan(&p))
		})
		e.flag(sub, &giveUp)
		plan.AddCommand(sub)
	}
	return plan
}

// flag adds the one for what is lost, where that makes sense.
func (e *errand) flag(cmd *cobra.Command, giveUp *bool) {
	if e.givesUp {
		cmd.Flags().BoolVar(giveUp, "give-up-lost", false, "DANGER: let buckets that have lost their quorum for good go on without the lost\nreplicas; writes that only those held are gone, even if they were acknowledged")
	}
}

// errandCommands are the commands that begin jobs.
func (o *outside) errandCommands() (out []*cobra.Command) {
	for _, e := range errands {
		out = append(out, o.errandCommand(e))
	}
	return out
}

func (o *outside) errandCommand(e errand) *cobra.Command {
	g := going{o: o, address: node.DefaultConfig().HTTP}
	cmd := &cobra.Command{
		Use: e.use, Short: e.short,
		Long: e.long + nodeHelp + `

It shows the plan and asks before it begins; --yes agrees beforehand. The job then
goes on by itself, whoever is alive: unkai jobs shows how far it is.

The exit code is 3 when it cannot begin now, because another job is running or the
cluster has just changed. To attach what is attached, or to attach or detach what the
running job does, is no mistake: it says so, and the exit code is 0.`,
		Example: e.example, Args: e.args,
	}
	f := cmd.Flags()
	f.StringVar(&g.address, "http", g.address, "address for administration of any node")
	f.BoolVar(&g.yes, "yes", false, "do not ask whether to begin")
	f.BoolVar(&g.force, "force", false, "begin even if some buckets cannot move before\nmore nodes are alive: until then they stay where\nthey are, and the job does not end")
	var giveUp bool
	e.flag(cmd, &giveUp)
	f.BoolVar(&g.wait, "wait", false, "wait until the job has ended")
	f.BoolVar(&g.json, "json", false, "print the job as JSON; wants --yes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := settle(f, o.env); err != nil {
			return usageError{err}
		}
		wish, err := e.wish(args)
		if err != nil {
			return err
		}
		wish.GiveUpLost = giveUp
		switch {
		case g.address == "" || g.address == off:
			return usageError{errors.New("http: name the address of a node: it was given as " + off)}
		case g.json && !g.yes:
			return usageError{errors.New("json: say --yes too: nobody reads a question")}
		}
		return g.run(cmd.Context(), wish)
	}
	return cmd
}

// going is an errand on its way.
type going struct {
	o               *outside
	address         string
	yes, wait, json bool
	force           bool
}

// changeTimeout is how long a change may take to be decided.
const changeTimeout = 20 * time.Second

// begins is how often an errand that was agreed to beforehand looks at a new plan
// when the cluster has changed since the last.
const begins = 5

func (g *going) run(ctx context.Context, wish admin.Wish) error {
	var j admin.Job
	already := false
	for try := 1; ; try++ {
		var p admin.Plan
		if err := g.post(ctx, "/v1/plan", wish, &p); err != nil {
			return err
		}
		if !g.json {
			if err := g.o.print("%s", describePlan(&p)); err != nil {
				return err
			}
		}
		if !g.yes && p.Already == "" {
			if err := g.o.confirm("Begin?"); err != nil {
				return err
			}
		}
		agreed := wish
		agreed.Epoch, agreed.Force = p.Epoch, g.force
		agreed.Nodes = p.Nodes // the very ones that were shown: an address may become another's meanwhile
		err := g.post(ctx, "/v1/jobs", agreed, &j)
		var busy conflict
		if err == nil {
			already = p.Already != ""
			break
		}
		if !g.yes || try == begins || !errors.As(err, &busy) || !strings.Contains(err.Error(), "has changed") {
			return err
		}
	}
	if !g.wait || j.ID == 0 {
		switch {
		case g.json:
			return g.o.printJSON(j)
		case already:
			return nil // as was said
		case j.ID == 0:
			return g.o.print("it is done already, by a job that has ended since\n")
		}
		return g.o.print("job %d has begun; unkai jobs shows how far it is\n", j.ID)
	}
	done, err := g.o.await(ctx, g.address, j.ID)
	if err != nil {
		return err
	}
	return g.o.account(&done, g.json)
}

func (g *going) post(ctx context.Context, path string, v, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err := post(ctx, g.address, path, v, answer)
	return err
}

// errDeclined is the end of a command to which somebody did not agree.
var errDeclined = errors.New("nothing was done")

// confirm asks the person at the terminal, if there is one.
func (o *outside) confirm(question string) error {
	if !o.terminal {
		return usageError{errors.New("yes: say --yes: there is nobody at a terminal to be asked")}
	}
	o.complain("%s [y/N] ", question)
	line, err := bufio.NewReader(o.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// conflict is what cannot be done now.
type conflict struct{ error }

// Unwrap gives why.
func (c conflict) Unwrap() error { return c.error }

// post sends JSON to a node and reads its answer into v.
func post(ctx context.Context, address, path string, v, answer any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("ask the node at %s: %w", address, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("ask the node at %s: %w", address, err)
	}
	r.Header.Set("Content-Type", "application/json")
	code, body, err := exchange(r)
	if err != nil {
		return nil, fmt.Errorf("ask the node at %s: %w", address, err)
	}
	said := errors.New(strings.TrimSpace(string(body)))
	switch code {
	case http.StatusOK:
	case http.StatusBadRequest:
		return nil, usageError{said}
	case http.StatusConflict:
		return nil, conflict{said}
	default:
		return nil, fmt.Errorf("the node at %s answers %s: %w", address, http.StatusText(code), said)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("the answer of %s was not understood: %w", address, err)
	}
	return body, nil
}
