package main

import (
	"fmt"
	"strings"
	"testing"

	"joingate/soak/servers"
)

// A master of a Redis cluster dies under joins and changes, the one on which the
// instances agree what is stale; its replica takes over. Before, meanwhile and after,
// no join is by an older policy.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := newRedisCluster(t)
	th := newTheatre(t, playbill{instances: 2, devices: 30, redisURL: c.url()})
	th.goesOn("nothing is wrong", 40, 6)
	for n, i := range th.instances {
		eventually(t, fmt.Sprintf("instance %d finds policies in Redis", n), func() bool { return i.metrics()[`joingate_cache_events_total{event="hit"}`] > 0 })
	}
	c.masters[c.ofMarks].Kill()
	th.goesOn("a master was killed", 40, 6)
	eventually(t, "the replica has taken over", func() bool {
		role, err := c.replica.Do("ROLE")
		return err == nil && strings.HasPrefix(role, "master")
	})
	for n, i := range th.instances {
		eventually(t, fmt.Sprintf("instance %d uses Redis again", n), func() bool { return i.metrics()["joingate_cache_up"] == 1 })
	}
	th.goesOn("the replica has taken over", 40, 6)
	th.everyoneJoins("the failover")
	th.verdict()
}

// redisCluster is three masters that divide the keys, and a replica of the one that
// holds the marks by which instances tell what is stale.
type redisCluster struct {
	t       testing.TB
	folder  string
	masters []*servers.Redis
	replica *servers.Redis
	ofMarks int // which of the masters
}

const slots = 16384 // of a Redis cluster

func newRedisCluster(t testing.TB) *redisCluster {
	t.Helper()
	c := &redisCluster{t: t, folder: t.TempDir()}
	for n := range 3 {
		node := c.node()
		c.do(node, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(n*slots/3), fmt.Sprint((n+1)*slots/3-1))
		c.do(node, "CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(n+1))
		c.masters = append(c.masters, node)
	}
	c.replica = c.node()
	for _, node := range append(c.masters[1:], c.replica) {
		c.do(node, "CLUSTER", "MEET", "127.0.0.1", c.masters[0].Port(), c.bus(c.masters[0]))
	}
	var slot int
	_, err := fmt.Sscan(c.do(c.masters[0], "CLUSTER", "KEYSLOT", "{marks}"), &slot)
	check(t, err)
	c.ofMarks = min(2, slot*3/slots)
	master := c.do(c.masters[c.ofMarks], "CLUSTER", "MYID")
	eventually(t, "the replica knows its master", func() bool { return strings.Contains(c.do(c.replica, "CLUSTER", "NODES"), master) })
	c.do(c.replica, "CLUSTER", "REPLICATE", master)
	for _, node := range append(c.masters, c.replica) {
		eventually(t, "the cluster is whole", func() bool {
			return strings.Contains(c.do(node, "CLUSTER", "INFO"), "cluster_state:ok") && strings.Contains(c.do(node, "CLUSTER", "NODES"), "slave "+master)
		})
	}
	eventually(t, "the replica follows", func() bool { return strings.Contains(c.do(c.replica, "INFO", "replication"), "master_link_status:up") })
	return c
}

func (c *redisCluster) node() *servers.Redis {
	c.t.Helper()
	bus, err := servers.FreePort()
	check(c.t, err)
	node, err := servers.NewRedis(c.folder, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000", "--cluster-config-file", "nodes-"+bus+".conf")
	installed(c.t, err)
	check(c.t, node.Start())
	c.t.Cleanup(node.Kill)
	return node
}

func (c *redisCluster) bus(node *servers.Redis) string {
	c.t.Helper()
	_, port, _ := strings.Cut(c.do(node, "CONFIG", "GET", "cluster-port"), "\n")
	return port
}

func (c *redisCluster) do(node *servers.Redis, args ...string) string {
	c.t.Helper()
	said, err := node.Do(args...)
	check(c.t, err)
	return said
}

func (c *redisCluster) url() string {
	var hosts []string
	for _, node := range append(c.masters, c.replica) {
		hosts = append(hosts, node.Address())
	}
	return "redis-cluster://" + strings.Join(hosts, ",")
}
