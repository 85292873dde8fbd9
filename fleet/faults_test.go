package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faultTime is how long a fault lasts: longer than a verdict is kept, and than it takes to
// notice.
const faultTime = 6 * time.Second

// oneServer is [store] for the first server.
const oneServer = `shared = "redis://` + redisNet + `2:6379/0"
shared_password_file = "DIR/password"
shared_key_file = "DIR/key"`

// numbered are the names of so many domains.
func numbered(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

// hide has a node alone see no _mta-sts record of a domain, and no policy host: as an
// attacker on its way does who wants its first mail.
func (in *internet) hide(t *testing.T, node int, names ...string) {
	t.Helper()
	for _, n := range names {
		must(t, in.DNS.Attack("forge", resolverOf(node), "_mta-sts."+n+".sts.example.", "TXT", "nodata"))
	}
	in.block(node, true)
}

func TestFleet(t *testing.T) {
	if !called(t) {
		return
	}
	network(t)
	t.Run("one server", oneServerFaults)
	t.Run("no key", withoutKey)
	t.Run("TLS", overTLS)
	t.Run("sentinel", withSentinels)
	t.Run("cluster", withCluster)
	t.Run("figures", figures)
}

// oneServerFaults goes through what can become of one server, one after another.
func oneServerFaults(t *testing.T) {
	names := numbered("d", 12)
	in := newInternet(t, names)
	redis := redisAt(t, 2)
	list := fleetOf(t, in, oneServer)
	for _, n := range list {
		n.withinReach(1)
	}
	firstVisit(t, in, list, names)
	answers := map[string]string{"lax-d0.sts.example": "NOTFOUND "}
	for _, name := range names[:4] {
		answers[name+".sts.example"] = strict(name)
	}
	pins(t, in, list)
	answers["one.pin.example"] = "OK secure match=mx.one.pin.example servername=hostname"
	for _, fault := range []struct {
		name string
		test func(*testing.T, []*node, *server, map[string]string)
	}{
		{"killed", killed},
		{"wiped", wiped},
		{"stopped", stopped},
		{"garbage", garbage},
		{"forged", forged},
		{"wrong password", wrongPassword},
		{"read-only", readOnly},
		{"full", full},
	} {
		t.Run(fault.name, func(t *testing.T) { fault.test(t, list, redis, answers) })
	}
	t.Run("partition", func(t *testing.T) { partition(t, in, list, redis, answers) })
	t.Run("new node", func(t *testing.T) { newcomer(t, in, list, answers) })
	for _, n := range list {
		if n.said("level=ERROR")+n.said("panic") > 0 {
			t.Errorf("node %d logged errors:\n%s", n.number, n.tail(30))
		}
	}
}

// firstVisit: who is attacked at its first visit has what another node learned, and without
// that has nothing.
func firstVisit(t *testing.T, in *internet, list []*node, names []string) {
	for _, name := range names[:4] {
		list[0].want(name+".sts.example", strict(name))
	}
	if !eventually(t.Context(), 5*time.Second, func() bool { return len(list[0].log) > 0 && published(list[0], names[:4]) }) {
		t.Fatal("nothing is published")
	}
	in.hide(t, 3, names...)
	for _, name := range names[:4] {
		list[2].want(name+".sts.example", strict(name))
	}
	// What nobody knows, the attack takes away: that is what the fleet is for.
	list[2].want("d11.sts.example", "NOTFOUND ")
	list[1].want("d11.sts.example", strict("d11"))
	list[2].becomes(5*time.Second, "d11.sts.example", strict("d11"))
	must(t, in.DNS.Mend())
	in.block(3, false)
	for _, name := range names[:4] {
		list[1].want(name+".sts.example", strict(name))
	}
}

// published asks a node that was attacked for nothing: it waits until the others could know.
func published(n *node, names []string) bool {
	for _, name := range names {
		if got, _ := n.ask(name + ".sts.example"); got != strict(name) {
			return false
		}
	}
	return true
}

// pins: the pin that one node learned holds on one that never saw the host.
func pins(t *testing.T, in *internet, list []*node) {
	const want = "OK secure match=mx.one.pin.example servername=hostname"
	in.block(2, true)
	in.block(3, true)
	// Probes of one address are seconds apart.
	list[0].becomes(2*time.Minute, "one.pin.example", want)
	list[1].becomes(10*time.Second, "one.pin.example", want)
	list[2].becomes(10*time.Second, "one.pin.example", want)
	in.block(2, false)
	in.block(3, false)
}

// killed: the process is gone, and comes back empty.
func killed(t *testing.T, list []*node, redis *server, answers map[string]string) {
	before := redis.records("policy")
	steadily(t, list, answers, func() {
		redis.kill()
		for _, n := range list {
			n.outOfReach(1)
		}
		// What is new is found out as without a fleet.
		list[0].want("d4.sts.example", strict("d4"))
		elapse(t.Context(), faultTime)
		redis.start()
		for _, n := range list {
			n.withinReach(2)
		}
		healed(t, redis, before+1)
	})
}

// healed waits until so many policies, and the pin, lie there again.
func healed(t *testing.T, redis *server, policies int) {
	t.Helper()
	if !eventually(t.Context(), 60*time.Second, func() bool { return redis.records("policy") >= policies && redis.records("pin") >= 1 }) {
		t.Errorf("%d policies and %d pins are there; want %d and 1", redis.records("policy"), redis.records("pin"), policies)
	}
}

func wiped(t *testing.T, list []*node, redis *server, answers map[string]string) {
	before := redis.records("policy")
	steadily(t, list, answers, func() {
		redis.do("FLUSHALL")
		elapse(t.Context(), faultTime)
		healed(t, redis, before)
	})
}

// stopped: it takes connections and commands, and says nothing.
func stopped(t *testing.T, list []*node, redis *server, answers map[string]string) {
	steadily(t, list, answers, func() {
		said := list[1].said("within reach")
		redis.signal(syscall.SIGSTOP)
		elapse(t.Context(), faultTime)
		start := time.Now()
		list[1].want("d5.sts.example", strict("d5"))
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("a new domain took %v", took)
		}
		elapse(t.Context(), 10*time.Second)
		redis.signal(syscall.SIGCONT)
		list[1].withinReach(said + 1)
		list[2].want("d5.sts.example", strict("d5"))
	})
}

// garbage in every place: texts, other types, and what is far too long.
func garbage(t *testing.T, list []*node, redis *server, answers map[string]string) {
	before := redis.records("policy")
	steadily(t, list, answers, func() {
		for _, write := range []func(key string) []string{
			func(key string) []string { return []string{"SET", key, "garbage"} },
			func(key string) []string { return []string{"RPUSH", key, "a", "b"} },
			func(key string) []string { return []string{"SETRANGE", key, "67108864", "x"} },
			func(key string) []string { return []string{"HSET", key, "version", "STSv1"} },
		} {
			redis.spoil(write)
			redis.do("SET", "tlsverdict:1:"+strings.Repeat("x", 100_000), "y")
			elapse(t.Context(), 3*time.Second)
		}
		if !eventually(t.Context(), 60*time.Second, func() bool { return valid(redis) >= before }) {
			t.Errorf("%d valid records of %d", valid(redis), before)
		}
	})
	said := 0
	for _, n := range list {
		said += n.said("are not this fleet's")
	}
	if said == 0 {
		// Not every node sees it before another has mended it.
		t.Error("no node says anything of garbage")
	}
}

// valid counts the records of policies that have their form.
func valid(redis *server) int {
	n := 0
	for _, key := range redis.keys() {
		if strings.Contains(key, ":policy:") && strings.HasPrefix(redis.try("GET", key), "tlsverdict/1 ") {
			n++
		}
	}
	return n
}

// forged: what somebody writes who can write, and has no key.
func forged(t *testing.T, list []*node, redis *server, answers map[string]string) {
	now := time.Now().Unix()
	space := strings.Split(redis.keys()[0], ":")[2]
	steadily(t, list, answers, func() {
		for _, policy := range []string{
			"version: STSv1\nmode: none\nmax_age: 31557600", "version: STSv1\nmode: testing\nmx: mx.evil.example\nmax_age: 31557600",
			"version: STSv1\nmode: enforce\nmx: mx.evil.example\nmax_age: 31557600", "version: STSv1\nmode: enforce\nmx: mx.d0.sts.example\nmax_age: 0",
		} {
			for domain := range answers {
				for _, mac := range []string{"-", strings.Repeat("0", 64)} {
					record := fmt.Sprintf("tlsverdict/1 %s\npolicy %s\nfetched %d id 1\n%s", mac, domain, now, policy)
					for _, fleet := range []string{space, "open"} {
						redis.do("SET", "tlsverdict:1:"+fleet+":policy:"+domain, record)
					}
				}
			}
			elapse(t.Context(), 2*time.Second)
		}
		// A record of the fleet's own, under another name.
		redis.do("COPY", "tlsverdict:1:"+space+":policy:d1.sts.example", "tlsverdict:1:"+space+":policy:lax-d0.sts.example", "REPLACE")
		elapse(t.Context(), faultTime)
	})
}

// wrongPassword: it was changed, and the nodes were not told.
func wrongPassword(t *testing.T, list []*node, redis *server, answers map[string]string) {
	steadily(t, list, answers, func() {
		was := list[0].said("out of reach")
		redis.do("CONFIG", "SET", "requirepass", "another")
		redis.password = "another"
		redis.do("CLIENT", "KILL", "TYPE", "normal")
		for _, n := range list {
			n.outOfReach(was + 1)
		}
		elapse(t.Context(), faultTime)
		if list[0].said("WRONGPASS") == 0 {
			t.Errorf("the log does not say what is wrong:\n%s", list[0].tail(5))
		}
		back := list[0].said("within reach")
		redis.do("CONFIG", "SET", "requirepass", password)
		redis.password = password
		list[0].withinReach(back + 1)
	})
}

// readOnly: it became a replica of a master that is not there.
func readOnly(t *testing.T, list []*node, redis *server, answers map[string]string) {
	steadily(t, list, answers, func() {
		redis.do("REPLICAOF", redisNet+"8", "6379")
		list[0].want("d6.sts.example", strict("d6"))
		elapse(t.Context(), faultTime)
		redis.do("REPLICAOF", "NO", "ONE")
		if !eventually(t.Context(), 90*time.Second, func() bool {
			return strings.Contains(strings.Join(redis.keys(), "\n"), "policy:d6.sts.example")
		}) {
			t.Error("what was learned meanwhile is not written")
		}
	})
}

// full: it has no memory for more.
func full(t *testing.T, list []*node, redis *server, answers map[string]string) {
	steadily(t, list, answers, func() {
		redis.do("CONFIG", "SET", "maxmemory", "1mb")
		list[0].want("d7.sts.example", strict("d7"))
		elapse(t.Context(), faultTime)
		redis.do("CONFIG", "SET", "maxmemory", "0")
		if !eventually(t.Context(), 90*time.Second, func() bool {
			return strings.Contains(strings.Join(redis.keys(), "\n"), "policy:d7.sts.example")
		}) {
			t.Error("what was learned meanwhile is not written")
		}
	})
}

// partition: one node and the server do not hear each other; what it learns meanwhile
// reaches the others afterwards.
func partition(t *testing.T, in *internet, list []*node, redis *server, answers map[string]string) {
	lone := list[1]
	steadily(t, list, answers, func() {
		was, back := lone.said("out of reach"), lone.said("within reach")
		cut(t, lone.number)
		lone.want("d8.sts.example", strict("d8"))
		lone.outOfReach(was + 1)
		lone.want("d9.sts.example", strict("d9"))
		mend(t, lone.number)
		lone.withinReach(back + 1)
		in.hide(t, 3, "d8", "d9")
		list[2].becomes(15*time.Second, "d8.sts.example", strict("d8"))
		list[2].becomes(5*time.Second, "d9.sts.example", strict("d9"))
		must(t, in.DNS.Mend())
		in.block(3, false)
	})
	_ = redis
}

// newcomer: a node that lost its store is attacked from its first breath on.
func newcomer(t *testing.T, in *internet, list []*node, answers map[string]string) {
	n := list[2]
	n.kill()
	n.forget()
	in.hide(t, 3, numbered("d", 12)...)
	n.log = nil
	n.start()
	n.withinReach(1)
	for key, want := range answers {
		n.becomes(10*time.Second, key, want)
	}
	// It has them for good: the server may go.
	if !eventually(t.Context(), 10*time.Second, func() bool { return n.explain("d0.sts.example")["verdict"] == "secure" }) {
		t.Error("no verdict")
	}
	cut(t, 3)
	steadily(t, []*node{n}, answers, func() { elapse(t.Context(), faultTime) })
	mend(t, 3)
	must(t, in.DNS.Mend())
	in.block(3, false)
}

// withoutKey: what a fleet without a key has to fear, and what not.
func withoutKey(t *testing.T) {
	names := numbered("k", 3)
	in := newInternet(t, names)
	redis := redisAt(t, 2)
	list := fleetOf(t, in, `shared = "redis://`+redisNet+`2:6379/0"`+"\nshared_password_file = \"DIR/password\"")
	for _, n := range list {
		n.withinReach(1)
	}
	list[0].want("k0.sts.example", strict("k0"))
	in.hide(t, 3, "k0")
	list[2].becomes(5*time.Second, "k0.sts.example", strict("k0"))
	must(t, in.DNS.Mend())
	in.block(3, false)
	plant := func(domain, policy string) {
		redis.do("SET", "tlsverdict:1:open:policy:"+domain, fmt.Sprintf("tlsverdict/1 -\npolicy %s\nfetched %d id 1\n%s", domain, time.Now().Unix(), policy))
	}
	// Nothing gets weaker, and a policy that the node can fetch itself counts.
	steadily(t, list[:1], map[string]string{"k0.sts.example": strict("k0")}, func() {
		for _, policy := range []string{"version: STSv1\nmode: none\nmax_age: 86400", "version: STSv1\nmode: enforce\nmx: mx.evil.example\nmax_age: 86400"} {
			plant("k0.sts.example", policy)
			plant("k1.sts.example", policy)
			elapse(t.Context(), 2*time.Second)
			list[1].want("k1.sts.example", strict("k1"))
		}
	})
	// A domain that publishes none can be made to wait, and only that.
	plant("lax-k2.sts.example", "version: STSv1\nmode: enforce\nmx: mx.evil.example\nmax_age: 31557600")
	if got, err := list[0].ask("lax-k2.sts.example"); err != nil || got == "NOTFOUND " {
		t.Errorf("%q, %v: that it is not taken is not what docs/fleet.md says", got, err)
	}
}

// overTLS: with certificates on both sides, and a user of Redis' own with no more rights
// than docs/fleet.md says.
func overTLS(t *testing.T) {
	in := newInternet(t, []string{"s0"})
	dir := t.TempDir()
	certificates(t, dir)
	page, err := os.ReadFile("../docs/fleet.md")
	must(t, err)
	_, rights, _ := strings.Cut(string(page), "ACL SETUSER policyd on >PASSWORD ")
	rights, _, _ = strings.Cut(rights, "\n")
	if rights == "" {
		t.Fatal("docs/fleet.md has no rights")
	}
	options := []string{"port 0", "tls-port 6379", "tls-cert-file " + dir + "/redis.pem", "tls-key-file " + dir + "/redis.pem", "tls-ca-cert-file " + dir + "/ca.pem", "user policyd on >secret " + rights}
	redis := &server{t: t, address: redisNet + "2", dir: dir, password: password, secure: true}
	redis.begin("redis.conf", append([]string{"bind " + redis.address, "save \"\"", "dir " + dir, fmt.Sprintf("requirepass %q", password)}, options...))
	store := `shared = "rediss://policyd@` + redisNet + `2:6379/0"` + "\nshared_password_file = \"DIR/secret\"\nshared_key_file = \"DIR/key\"\nshared_ca_file = \"" + dir + "/ca.pem\"\n"
	list := make([]*node, nodes)
	for i := range list {
		list[i] = newNode(t, in, i+1, store+`shared_cert_file = "`+dir+`/node.pem"`)
		must(t, os.WriteFile(filepath.Join(list[i].dir, "secret"), []byte("secret\n"), 0o600))
		list[i].start()
		list[i].withinReach(1)
	}
	list[0].want("s0.sts.example", strict("s0"))
	in.hide(t, 3, "s0")
	list[2].becomes(5*time.Second, "s0.sts.example", strict("s0"))
	must(t, in.DNS.Mend())
	in.block(3, false)
	if denied := redis.do("ACL", "LOG"); strings.Contains(denied, "command") && strings.Contains(denied, "policyd") {
		t.Errorf("commands were denied: %s", denied)
	}
	// A node that asks for another authority's certificates does not log in.
	list[1].kill()
	stranger := t.TempDir()
	certificates(t, stranger)
	list[1] = newNode(t, in, 2, strings.Replace(store, dir+"/ca.pem", stranger+"/ca.pem", 1))
	must(t, os.WriteFile(filepath.Join(list[1].dir, "secret"), []byte("secret\n"), 0o600))
	list[1].start()
	list[1].outOfReach(1)
	if list[1].said("certificate") == 0 {
		t.Errorf("the log does not say what is wrong:\n%s", list[1].tail(5))
	}
	list[1].want("s0.sts.example", strict("s0"))
}

// certificates writes ca.pem, redis.pem and node.pem.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "The Fleet's CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for i, name := range []string{"ca", "redis", "node"} {
		c := ca
		if i > 0 {
			c = &x509.Certificate{
				SerialNumber: big.NewInt(int64(i)), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
				IPAddresses: []net.IP{net.ParseIP(redisNet + "2")},
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, key)
		must(t, err)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if i > 0 {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
		}
		must(t, os.WriteFile(filepath.Join(dir, name+".pem"), text, 0o600))
	}
}

// withSentinels: the master dies, and a replica takes over that lags behind.
func withSentinels(t *testing.T) {
	names := numbered("f", 4)
	in := newInternet(t, names)
	master := redisAt(t, 2)
	replica := redisAt(t, 3, "replicaof "+redisNet+"2 6379")
	if !eventually(t.Context(), 20*time.Second, func() bool { return strings.Contains(replica.do("INFO", "replication"), "master_link_status:up") }) {
		t.Fatal("the replica does not follow")
	}
	sentinels := []*server{sentinelAt(t, 4, master.address), sentinelAt(t, 5, master.address), sentinelAt(t, 6, master.address)}
	if !eventually(t.Context(), 30*time.Second, func() bool {
		seen := sentinels[0].do("SENTINEL", "MASTER", masterOf)
		return strings.Contains(seen, "num-other-sentinels\n2") && strings.Contains(seen, "num-slaves\n1")
	}) {
		log, _ := os.ReadFile(sentinels[0].dir + "/log")
		t.Fatalf("the sentinels do not know each other, or the replica: %s\n%s", sentinels[0].try("SENTINEL", "MASTER", masterOf), log)
	}
	list := fleetOf(t, in, `shared = "redis+sentinel://`+redisNet+"4,"+redisNet+"5,"+redisNet+"6/"+masterOf+"/1\"\nshared_password_file = \"DIR/password\"\nshared_key_file = \"DIR/key\"")
	for _, n := range list {
		n.withinReach(1)
	}
	list[0].want("f0.sts.example", strict("f0"))
	answers := map[string]string{}
	for _, name := range names[:3] {
		answers[name+".sts.example"] = strict(name)
		for _, n := range list {
			n.want(name+".sts.example", strict(name))
		}
	}
	elapse(t.Context(), time.Second)
	if got := replica.do("-n", "1", "DBSIZE"); got == "0" {
		t.Error("the replica has nothing: is it database 1?")
	}
	steadily(t, list, answers, func() {
		// The replica misses what comes now.
		replica.signal(syscall.SIGSTOP)
		list[0].want("f3.sts.example", strict("f3"))
		elapse(t.Context(), time.Second)
		master.kill()
		replica.signal(syscall.SIGCONT)
		if !eventually(t.Context(), 60*time.Second, func() bool { return strings.Contains(replica.try("INFO", "replication"), "role:master") }) {
			t.Fatal("the replica is not made the master")
		}
		for _, n := range list {
			n.withinReach(2)
		}
		in.hide(t, 3, "f3")
		list[2].becomes(60*time.Second, "f3.sts.example", strict("f3"))
		must(t, in.DNS.Mend())
		in.block(3, false)
	})
}

// withCluster: three masters, of which one dies.
func withCluster(t *testing.T) {
	names := numbered("c", 24)
	in := newInternet(t, names)
	var masters []*server
	for i := range 3 {
		masters = append(masters, redisAt(t, 2+i, "cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no"))
	}
	for i, m := range masters {
		first := 16384 / 3 * i
		last := 16384/3*(i+1) - 1
		if i == 2 {
			last = 16383
		}
		m.do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(first), fmt.Sprint(last))
		if i > 0 {
			m.do("CLUSTER", "MEET", masters[0].address, "6379")
		}
	}
	for _, m := range masters {
		if !eventually(t.Context(), 30*time.Second, func() bool {
			info := m.do("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:3")
		}) {
			t.Fatal("no cluster:", m.do("CLUSTER", "INFO"))
		}
	}
	list := fleetOf(t, in, `shared = "redis+cluster://`+redisNet+"2,"+redisNet+"3\"\nshared_password_file = \"DIR/password\"\nshared_key_file = \"DIR/key\"")
	for _, n := range list {
		n.withinReach(1)
	}
	answers := make(map[string]string)
	for _, name := range names[:12] {
		answers[name+".sts.example"] = strict(name)
		list[0].want(name+".sts.example", strict(name))
	}
	elapse(t.Context(), time.Second)
	for i, m := range masters {
		if m.records("policy") == 0 {
			t.Errorf("master %d has no policy", i)
		}
	}
	in.hide(t, 3, names...)
	for key, want := range answers {
		list[2].want(key, want)
	}
	must(t, in.DNS.Mend())
	in.block(3, false)
	for key, want := range maps.Clone(answers) {
		list[1].want(key, want)
	}
	steadily(t, list, answers, func() {
		masters[2].kill()
		elapse(t.Context(), faultTime)
		for _, name := range names[12:18] {
			list[0].want(name+".sts.example", strict(name))
		}
		masters[2].start()
		total := 0
		if !eventually(t.Context(), 120*time.Second, func() bool {
			total = 0
			for _, m := range masters {
				total += m.records("policy")
			}
			return total >= 18
		}) {
			t.Errorf("%d policies are there, want 18", total)
		}
	})
}
