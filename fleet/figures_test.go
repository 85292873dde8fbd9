package fleet

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// figures measures what a fleet costs its server: docs/fleet.md works with them. Counts and
// octets only, since they do not depend on the machine.
func figures(t *testing.T) {
	const known, asked = 200, 200
	in := newInternet(t, numbered("m", known+asked))
	redis := redisAt(t, 2)
	list := fleetOf(t, in, oneServer)
	for _, n := range list {
		n.withinReach(1)
	}
	elapse(t.Context(), 2*time.Second)
	before := redis.calls()
	for _, name := range numbered("m", known) {
		list[0].want(name+".sts.example", strict(name))
	}
	if !eventually(t.Context(), 10*time.Second, func() bool { return redis.records("policy") == known }) {
		t.Fatalf("%d records", redis.records("policy"))
	}
	after := redis.calls()
	figure(t, "%d policies learned: %d writes", known, after["set"]-before["set"])
	before = redis.calls()
	elapse(t.Context(), 20*time.Second)
	after = redis.calls()
	figure(t, "three nodes that know %d policies, and have nothing to do for 20 s: %d reads, %d writes", known, after["getrange"]-before["getrange"], after["set"]-before["set"])
	memory(t, redis)
	fetched := in.fetches()
	for _, name := range numbered("m", known) {
		list[1].want(name+".sts.example", strict(name))
	}
	figure(t, "%d policies that another node knows: %d fetches while they were asked for", known, in.fetches()-fetched)
	cold(t, list)
}

// memory is what records take there.
func memory(t *testing.T, redis *server) {
	total, length := 0, 0
	keys := redis.keys()
	for _, key := range keys {
		n, err := strconv.Atoi(redis.do("MEMORY", "USAGE", key, "SAMPLES", "0"))
		must(t, err)
		l, err := strconv.Atoi(redis.do("STRLEN", key))
		must(t, err)
		total, length = total+n, length+l
	}
	figure(t, "%d octets of Redis' memory a record, of which %d are the record (policies of %d octets)", total/len(keys), length/len(keys), len(policyText("m100")))
	for _, line := range strings.Split(redis.do("INFO", "memory"), "\n") {
		if strings.HasPrefix(line, "used_memory:") {
			figure(t, "Redis in all: %s", line)
		}
	}
}

// cold compares questions for domains without a policy, with the server and without it.
func cold(t *testing.T, list []*node) {
	t.Helper()
	names := numbered("m", 100)
	round := func() time.Duration {
		elapse(t.Context(), 1500*time.Millisecond) // verdicts end
		start := time.Now()
		for _, name := range names {
			list[0].want("lax-"+name+".sts.example", "NOTFOUND ")
		}
		return time.Since(start)
	}
	round()
	with := round()
	cut(t, 1)
	list[0].outOfReach(1)
	without := round()
	mend(t, 1)
	figure(t, "a question for a domain without a policy takes %.3f of the time with the server as without", float64(with)/float64(without))
}
