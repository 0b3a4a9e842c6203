package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// redis is a master with two replicas and three sentinels, which make a replica
// the master when it is dead for a second.
func redis() contestant {
	return contestant{
		name:   "redis",
		writes: "synced on the master, in memory on 1 of 2 replicas (WAIT 1)",
		reads:  "from the master, not confirmed by others",
		get:    "apt-get install redis-server",
		find: func(context.Context, string, settings) (string, error) {
			return exec.LookPath("redis-server")
		},
		start: startRedis,
	}
}

type redisCluster struct {
	pack
	listen, sentinels []string
}

func startRedis(ctx context.Context, program, dir string, _ settings) (cluster, error) {
	r := &redisCluster{pack: pack{dir: dir}}
	addrs, err := addresses(ctx, 2*nodes)
	if err != nil {
		return nil, err
	}
	r.listen, r.sentinels = addrs[:nodes], addrs[nodes:]
	master := portOf(r.listen[0])
	for i := range nodes {
		data := filepath.Join(dir, fmt.Sprint(i+1))
		if err := os.Mkdir(data, 0o755); err != nil {
			return r, fmt.Errorf("make a data directory: %w", err)
		}
		args := []string{
			"--port", portOf(r.listen[i]), "--bind", "127.0.0.1", "--dir", data, "--save", "",
			"--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
		}
		if i > 0 {
			args = append(args, "--replicaof", "127.0.0.1", master)
		}
		if err := r.start(program, args...); err != nil {
			return r, err
		}
	}
	if err := until(ctx, "two replicas follow", &r.pack, r.followed); err != nil {
		return r, err
	}
	for i, addr := range r.sentinels {
		file := filepath.Join(dir, fmt.Sprintf("sentinel-%d.conf", i+1))
		config := fmt.Sprintf(`port %s
bind 127.0.0.1
dir %s
sentinel monitor peers 127.0.0.1 %s 2
sentinel down-after-milliseconds peers 1000
sentinel failover-timeout peers 5000
`, portOf(addr), dir, master)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return r, fmt.Errorf("write the configuration: %w", err)
		}
		if err := r.start(program, file, "--sentinel"); err != nil {
			return r, err
		}
	}
	return r, until(ctx, "the sentinels know each other and both replicas", &r.pack, r.guarded)
}

// info asks a server or sentinel for a section of INFO.
func info(ctx context.Context, addr, section string) (string, error) {
	c, err := rueidis.NewClient(options(rueidis.ClientOption{InitAddress: []string{addr}}))
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Do(ctx, c.B().Info().Section(section).Build()).ToString()
}

func (r *redisCluster) followed(ctx context.Context) error {
	s, err := info(ctx, r.listen[0], "replication")
	if err == nil && strings.Count(s, "state=online") != nodes-1 {
		return errors.New("replicas are not online yet")
	}
	return err
}

func (r *redisCluster) guarded(ctx context.Context) error {
	for _, addr := range r.sentinels {
		s, err := info(ctx, addr, "sentinel")
		if err != nil {
			return err
		}
		if !strings.Contains(s, "status=ok") || !strings.Contains(s, "slaves=2,sentinels=3") {
			return fmt.Errorf("sentinel says %q", s)
		}
	}
	return nil
}

func (r *redisCluster) members() *pack { return &r.pack }

// dearest is the master.
func (r *redisCluster) dearest(ctx context.Context) (int, error) {
	for i, addr := range r.listen {
		s, err := info(ctx, addr, "replication")
		if err != nil {
			return -1, err
		}
		if strings.Contains(s, "role:master") {
			return i, nil
		}
	}
	return -1, errors.New("there is no master")
}

// options are those of one connection for one operation at a time.
func options(o rueidis.ClientOption) rueidis.ClientOption {
	o.DisableCache, o.PipelineMultiplex = true, -1
	o.ConnWriteTimeout, o.Dialer = patience, net.Dialer{Timeout: patience}
	return o
}

// connect finds the master, whatever the node: only it can write, and only it
// knows the newest value.
func (r *redisCluster) connect(ctx context.Context, node int) (client, error) {
	c, err := rueidis.NewClient(options(rueidis.ClientOption{
		InitAddress: append(r.sentinels[node:nodes:nodes], r.sentinels[:node]...),
		Sentinel:    rueidis.SentinelOption{MasterSet: "peers"},
	}))
	if err != nil {
		return nil, err
	}
	return &redisClient{ctx: ctx, c: c}, nil
}

type redisClient struct {
	ctx     context.Context
	c       rueidis.Client
	own     rueidis.DedicatedClient // for WATCH
	release func()
}

func (r *redisClient) get(key string) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	return r.c.Do(ctx, r.c.B().Get().Key(key).Build()).Error()
}

func (r *redisClient) put(key string, value []byte) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	got := r.c.DoMulti(ctx,
		r.c.B().Set().Key(key).Value(rueidis.BinaryString(value)).Build(),
		r.c.B().Wait().Numreplicas(1).Timeout(patience.Milliseconds()).Build())
	if err := got[0].Error(); err != nil {
		return err
	}
	return replicated(got[1])
}

func replicated(r rueidis.RedisResult) error {
	n, err := r.AsInt64()
	if err == nil && n < 1 {
		return errors.New("no replica has it: " + strconv.FormatInt(n, 10))
	}
	return err
}

func (r *redisClient) swap(key string, value []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	if r.own == nil {
		r.own, r.release = r.c.Dedicate()
	}
	b := r.own.B()
	for _, got := range r.own.DoMulti(ctx, b.Watch().Key(key).Build(), b.Get().Key(key).Build()) {
		if err := got.Error(); err != nil {
			return false, err
		}
	}
	got := r.own.DoMulti(ctx, b.Multi().Build(),
		b.Set().Key(key).Value(rueidis.BinaryString(value)).Build(), b.Exec().Build(),
		b.Wait().Numreplicas(1).Timeout(patience.Milliseconds()).Build())
	if err := got[2].Error(); err != nil {
		if rueidis.IsRedisNil(err) {
			return false, nil
		}
		return false, err
	}
	return true, replicated(got[3])
}

func (r *redisClient) close() {
	if r.own != nil {
		r.release()
	}
	r.c.Close()
}
