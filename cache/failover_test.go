package cache_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"joingate/cache"
)

// hits reports whether what the record says is remembered, and Forget works.
func hits(t *testing.T, policies cache.Policies, truth *record, from int64) bool {
	t.Helper()
	truth.set(from)
	policies.Forget()
	expect(t, policies, from)
	truth.set(from + 1)
	p, g := read(t, policies)
	policies.Forget()
	expect(t, policies, from+1)
	return p == from && g == from
}

func patient(o *cache.Options) { o.Timeout = 200 * time.Millisecond }

// While a master is dead, the record answers; when its replica has taken over, the
// cache works again.
func TestClusterFailover(t *testing.T) {
	t.Parallel() // most of it is waiting
	nodes := startCluster(t)
	truth := newRecord(1)
	r := openRedis(t, clusterURL(nodes), patient)
	policies := r.Policies(truth)
	eventually(t, func() bool { return hits(t, policies, truth, 10) })

	slot := nodes[0].do("CLUSTER", "KEYSLOT", r.Key("{marks}:generation")).(int64)
	master := nodes[min(2, slot*3/16384)]
	replica := startNode(t)
	master.meet(replica)
	id := master.do("CLUSTER", "MYID")
	eventually(t, func() bool { return strings.Contains(replica.do("CLUSTER", "NODES").(string), id.(string)) })
	replica.do("CLUSTER", "REPLICATE", id)
	eventually(t, func() bool {
		return strings.Contains(replica.do("INFO", "replication").(string), "master_link_status:up") &&
			strings.Contains(nodes[1].do("CLUSTER", "NODES").(string), "slave "+id.(string))
	})
	master.kill()
	eventually(t, func() bool { return hits(t, policies, truth, 20) })
}

// A failover of Sentinel keeps the cache usable: its loss of a Forget is the
// commit's to catch, but nothing may stick.
func TestSentinel(t *testing.T) {
	t.Parallel() // most of it is waiting
	master := startServer(t)
	replica := startServer(t, "replicaof 127.0.0.1 "+master.port, "repl-diskless-sync-delay 0")
	sentinel := startServer(t)
	sentinel.kill()
	if err := os.WriteFile(sentinel.config, []byte("bind 127.0.0.1\nport "+sentinel.port+"\ndir "+t.TempDir()+"\n"+
		"sentinel monitor joins 127.0.0.1 "+master.port+" 1\nsentinel down-after-milliseconds joins 500\n"+
		"sentinel known-replica joins 127.0.0.1 "+replica.port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel.start("--sentinel")
	truth := newRecord(1)
	r := openRedis(t, "redis-sentinel://"+sentinel.address()+"/joins", patient)
	policies := r.Policies(truth)
	eventually(t, func() bool { return hits(t, policies, truth, 10) })
	eventually(t, func() bool {
		return strings.Contains(replica.do("INFO", "replication").(string), "master_link_status:up")
	})
	master.kill()
	eventually(t, func() bool { return hits(t, policies, truth, 20) })
}
