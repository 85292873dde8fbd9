package dnssec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// TestRPL runs the validator scenarios of the Unbound project, where RPL_DIR or a
// folder beside the project has them. Each holds a fake network, the time, trust
// anchors, and questions with what a validating resolver must answer: AD for secure,
// SERVFAIL for bogus, neither for insecure. testdata/rpl-not-applicable.tsv lists those
// that test something else, and why.
func TestRPL(t *testing.T) {
	files := corpus(t, "*.rpl")
	if len(files) == 0 {
		return
	}
	skip := notApplicable(t)
	passed, failed, outside := 0, 0, 0
	for _, file := range files {
		base := filepath.Base(file)
		if why, ok := skip[base]; ok {
			outside++
			t.Logf("not applicable: %s: %s", base, why)
			// What is not ours to answer may still not be believed.
			if problem := runRPL(t, file); problem != nil && problem.accepted && !strings.HasSuffix(why, "\tdiffers") {
				t.Errorf("%s: %v", base, problem)
			}
			continue
		}
		if problem := runRPL(t, file); problem != nil {
			failed++
			t.Logf("failed: %s: %v", base, problem)
			if problem.accepted {
				t.Errorf("%s: what must be bogus was believed: %v", base, problem)
			}
			continue
		}
		passed++
	}
	if passed*100 < 95*(passed+failed) {
		t.Errorf("less than 95 %% of the applicable scenarios pass")
	}
	fmt.Printf("%d passed, %d failed, %d not applicable\n", passed, failed, outside)
}

func notApplicable(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "rpl-not-applicable.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if file, why, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && !strings.HasPrefix(line, "#") {
			table[file] = why
		}
	}
	return table
}

// rplProblem is a scenario that came out otherwise; accepted: bogus data was believed.
type rplProblem struct {
	text     string
	accepted bool
}

func (p *rplProblem) Error() string { return p.text }

func runRPL(t *testing.T, file string) *rplProblem {
	t.Helper()
	sc, err := parseRPL(file)
	if err != nil {
		return &rplProblem{text: err.Error()}
	}
	anchors, err := parseAnchors([]byte(sc.anchors), oldSuite())
	if err != nil {
		return &rplProblem{text: err.Error()}
	}
	now := sc.date
	v := New(Config{Anchors: anchors, SHA1: true, Clock: func() time.Time { return now }})
	v.suite = oldSuite()
	var question dns.Question
	cd := false
	for _, step := range sc.steps {
		switch step.kind {
		case "TIME_PASSES":
			now = now.Add(step.passes)
		case "QUERY":
			// A stub sets RD, and checking is what this is about.
			question = step.entry.msg.Question[0]
			cd = step.entry.msg.CheckingDisabled || !step.entry.msg.RecursionDesired
		case "CHECK_ANSWER":
			if cd {
				continue
			}
			s := v.Session(sc.network(step.at))
			a := s.Lookup(context.Background(), question.Name, question.Qtype)
			s.Close()
			if p := compareRPL(step, question, a); p != nil {
				return p
			}
		}
	}
	return nil
}

func compareRPL(step rplStep, q dns.Question, a Answer) *rplProblem {
	want := step.entry.msg
	wantProof, wantOutcome := verdict.Insecure, verdict.Found
	switch {
	case want.Rcode == dns.RcodeServerFailure:
		if a.Outcome == verdict.Failed {
			return nil
		}
		return &rplProblem{text: fmt.Sprintf("step %d: %s %s: %v %v, want bogus\n%v", step.at, q.Name, typeName(q.Qtype), a.Outcome, a.Proof, a.Chain()), accepted: true}
	case want.AuthenticatedData:
		wantProof = verdict.Secure
	}
	switch {
	case holds(want.Answer, q):
	case want.Rcode == dns.RcodeNameError:
		// Records of the type may be there all the same: the DNAME that was followed.
		wantOutcome = verdict.NXDomain
	case endsWith(want.Answer, q.Qtype):
	default:
		wantOutcome = verdict.NoData
	}
	proof := a.Proof
	if proof == verdict.Indeterminate && a.Outcome != verdict.Failed {
		proof = verdict.Insecure // a resolver makes no difference where it has no anchor
	}
	if proof != wantProof || a.Outcome != wantOutcome {
		err := error(errors.New("no error"))
		if a.Err != nil {
			err = a.Err
		}
		return &rplProblem{
			text:     fmt.Sprintf("step %d: %s %s: %v %v (%v), want %v %v\n%v", step.at, q.Name, typeName(q.Qtype), a.Outcome, a.Proof, err, wantOutcome, wantProof, a.Chain()),
			accepted: false,
		}
	}
	return nil
}

// holds reports records of the type at the very name.
func holds(rrs []dns.RR, q dns.Question) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		return rr.Header().Rrtype == q.Qtype && strings.EqualFold(rr.Header().Name, q.Name)
	})
}

func endsWith(rrs []dns.RR, rtype uint16) bool {
	for _, rr := range rrs {
		if rr.Header().Rrtype == rtype {
			return true
		}
	}
	return false
}

// rplScenario is one file.
type rplScenario struct {
	anchors string
	date    time.Time
	entries []rplEntry
	steps   []rplStep
}

type rplEntry struct {
	low, high int
	subdomain bool
	msg       *dns.Msg
}

type rplStep struct {
	at     int
	kind   string
	passes time.Duration
	entry  rplEntry
}

var (
	rplAnchor = regexp.MustCompile(`^\s*trust-anchor:\s*"(.*)"`)
	rplDate   = regexp.MustCompile(`^\s*val-override-date:\s*"?(-?[0-9]+)`)
)

func parseRPL(file string) (*rplScenario, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := new(rplScenario)
	var entry *rplEntry
	var step *rplStep
	low, high, section := 0, 0, ""
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := rplAnchor.FindStringSubmatch(line); m != nil {
			sc.anchors += m[1] + "\n"
			continue
		}
		if m := rplDate.FindStringSubmatch(line); m != nil {
			if m[1] == "-1" {
				continue // times do not count: any at which the signatures hold
			}
			if sc.date, err = time.Parse("20060102150405", m[1]); err != nil {
				return nil, err
			}
			continue
		}
		line, _, _ = strings.Cut(line, ";")
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		switch w[0] {
		case "RANGE_BEGIN":
			low, _ = strconv.Atoi(w[1])
			high, _ = strconv.Atoi(w[2])
		case "STEP":
			at, _ := strconv.Atoi(w[1])
			sc.steps = append(sc.steps, rplStep{at: at, kind: w[2]})
			step = &sc.steps[len(sc.steps)-1]
			if w[2] == "TIME_PASSES" {
				n, _ := strconv.Atoi(w[len(w)-1])
				step.passes = time.Duration(n) * time.Second
			}
		case "ENTRY_BEGIN":
			entry = &rplEntry{low: low, high: high, msg: new(dns.Msg)}
		case "ENTRY_END":
			if step != nil {
				step.entry = *entry
			} else {
				sc.entries = append(sc.entries, *entry)
			}
			entry = nil
		case "MATCH":
			entry.subdomain = strings.Contains(line, "subdomain")
		case "REPLY":
			for _, flag := range w[1:] {
				setFlag(entry.msg, flag)
			}
		case "SECTION":
			section = w[1]
		case "ADJUST", "ADDRESS", "RANGE_END", "SCENARIO_BEGIN", "SCENARIO_END", "CONFIG_END":
		default:
			if entry == nil {
				continue
			}
			if err = entry.add(section, line); err != nil {
				return nil, err
			}
		}
	}
	if sc.date.IsZero() {
		sc.date = sc.signed()
	}
	return sc, lines.Err()
}

// signed is an hour after the latest signature was made.
func (sc *rplScenario) signed() time.Time {
	var last uint32
	for _, e := range sc.entries {
		for _, rr := range append(e.msg.Answer, e.msg.Ns...) {
			if sig, ok := rr.(*dns.RRSIG); ok {
				last = max(last, sig.Inception)
			}
		}
	}
	return time.Unix(int64(last), 0).Add(time.Hour)
}

func setFlag(m *dns.Msg, flag string) {
	switch flag {
	case "QR":
		m.Response = true
	case "AA":
		m.Authoritative = true
	case "TC":
		m.Truncated = true
	case "RD":
		m.RecursionDesired = true
	case "RA":
		m.RecursionAvailable = true
	case "AD":
		m.AuthenticatedData = true
	case "CD":
		m.CheckingDisabled = true
	default:
		if rcode, ok := dns.StringToRcode[flag]; ok {
			m.Rcode = rcode
		}
	}
}

var rplMnemonic = regexp.MustCompile(`(?i)(RRSIG\s+\S+|DS\s+\d+)\s+(DSA|RSASHA1|RSASHA256)\s`)

func (e *rplEntry) add(section, line string) error {
	if section == "QUESTION" {
		w := strings.Fields(line)
		q := dns.Question{Name: dns.Fqdn(strings.ToLower(w[0])), Qclass: dns.ClassINET}
		q.Qtype = dns.StringToType[w[len(w)-1]]
		e.msg.Question = []dns.Question{q}
		return nil
	}
	line = rplMnemonic.ReplaceAllStringFunc(line, func(s string) string {
		for mnemonic, number := range dns.StringToAlgorithm {
			if i := strings.Index(s, " "+mnemonic); i >= 0 && strings.TrimSpace(s[i:]) == mnemonic {
				return s[:i] + " " + strconv.Itoa(int(number)) + " "
			}
		}
		return s
	})
	rr, err := dns.NewRR(line)
	if err != nil {
		return err
	}
	if _, raw, ok := strings.Cut(line, `\#`); ok {
		// The library would read octets that are not of the type's form.
		hdr := *rr.Header()
		hdr.Rdlength = 0
		rr = &dns.RFC3597{Hdr: hdr, Rdata: strings.Fields(raw)[1]}
	}
	switch rr := rr.(type) {
	case nil:
		return nil
	case *dns.NSEC:
		slices.Sort(rr.TypeBitMap)
	case *dns.NSEC3:
		slices.Sort(rr.TypeBitMap)
	}
	switch section {
	case "ANSWER":
		e.msg.Answer = append(e.msg.Answer, rr)
	case "AUTHORITY":
		e.msg.Ns = append(e.msg.Ns, rr)
	}
	return nil
}

// network makes a recursive resolver of the entries that are active at a step; it has
// earlier ones in its cache.
func (sc *rplScenario) network(at int) rplNetwork {
	var n, cached rplNetwork
	for _, e := range sc.entries {
		switch {
		case len(e.msg.Question) != 1:
		case e.low <= at && at <= e.high:
			n = append(n, e)
		case e.high < at:
			cached = append(cached, e)
		}
	}
	return append(n, cached...)
}

type rplNetwork []rplEntry

var errRPL = errors.New("nothing in the scenario answers this")

func (n rplNetwork) Exchange(_ context.Context, q Query) (*dns.Msg, error) {
	found := n.answers(q)
	if len(found) == 0 && q.Type == dns.TypeDS {
		found = append(n.fromReferrals(q), n.fromDenials(q)...)
	}
	if len(found) == 0 {
		found = n.fromAnswers(q)
	}
	if len(found) == 0 {
		return nil, errRPL
	}
	m := found[min(q.Again, len(found)-1)].Copy()
	m.Question = []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}}
	m.Response, m.RecursionAvailable = true, true
	packed, err := m.Pack()
	if err != nil {
		return nil, err
	}
	m = new(dns.Msg)
	return m, m.Unpack(packed)
}

func (n rplNetwork) answers(q Query) []*dns.Msg {
	var found, loose []*dns.Msg
	for _, e := range n {
		at := e.msg.Question[0]
		exact := at.Name == q.Name && at.Qtype == q.Type
		under := e.subdomain && dns.IsSubDomain(at.Name, q.Name)
		if !exact && !under || refers(e.msg) || e.msg.Rcode != dns.RcodeSuccess && e.msg.Rcode != dns.RcodeNameError {
			continue
		}
		if exact {
			found = append(found, e.msg)
		} else {
			loose = append(loose, e.msg)
		}
	}
	return append(found, loose...)
}

// refers reports a reply that only points to a child's servers.
func refers(m *dns.Msg) bool {
	return len(m.Answer) == 0 && endsWith(m.Ns, dns.TypeNS) && !endsWith(m.Ns, dns.TypeSOA)
}

// fromReferrals finds the DS, or its denial, that came along with a referral.
func (n rplNetwork) fromReferrals(q Query) []*dns.Msg {
	var found []*dns.Msg
	for _, e := range n {
		m := new(dns.Msg)
		cut := false
		for _, rr := range e.msg.Ns {
			owner, rtype := strings.ToLower(rr.Header().Name), rr.Header().Rrtype
			cut = cut || rtype == dns.TypeNS && owner == q.Name
			covered := uint16(0)
			if sig, ok := rr.(*dns.RRSIG); ok {
				covered = sig.TypeCovered
			}
			switch {
			case owner == q.Name && (rtype == dns.TypeDS || covered == dns.TypeDS):
				m.Answer = append(m.Answer, rr)
			case rtype == dns.TypeNSEC || rtype == dns.TypeNSEC3 || covered == dns.TypeNSEC || covered == dns.TypeNSEC3:
				m.Ns = append(m.Ns, rr)
			}
		}
		if len(m.Answer) > 0 {
			m.Ns = nil
		}
		if cut && refers(e.msg) && len(m.Answer)+len(m.Ns) > 0 {
			found = append(found, m)
		}
	}
	return found
}

// fromDenials finds the NSEC or NSEC3 of a name that came along with anything else.
func (n rplNetwork) fromDenials(q Query) []*dns.Msg {
	var found []*dns.Msg
	for _, e := range n {
		for _, rr := range e.msg.Ns {
			_, isNSEC := rr.(*dns.NSEC)
			nsec3, isNSEC3 := rr.(*dns.NSEC3)
			if isNSEC && strings.EqualFold(rr.Header().Name, q.Name) || isNSEC3 && nsec3.Match(q.Name) {
				found = append(found, &dns.Msg{Ns: e.msg.Ns})
				break
			}
		}
	}
	return found
}

// fromAnswers finds records, or an alias, that came along with the answer to another
// question. Where the alias leads on in that answer, its denial there is the denial here.
func (n rplNetwork) fromAnswers(q Query) []*dns.Msg {
	var found []*dns.Msg
	for _, e := range n {
		m := &dns.Msg{Ns: e.msg.Ns}
		m.Rcode = e.msg.Rcode
		for _, rr := range e.msg.Answer {
			covered := rr.Header().Rrtype
			if sig, ok := rr.(*dns.RRSIG); ok {
				covered = sig.TypeCovered
			}
			owner := strings.ToLower(rr.Header().Name)
			if owner == q.Name && (covered == q.Type || covered == dns.TypeCNAME) || covered == dns.TypeDNAME && owner != q.Name && dns.IsSubDomain(owner, q.Name) {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) > 0 {
			found = append(found, m)
		}
	}
	return found
}
