package world_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/explain"
	"tlsverdict/internal/history"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/world"
)

// face is which of the daemon's maps is asked first, on a cold cache.
type face string

const (
	postfixFace face = "postfix"
	jsonFace    face = "json"
)

// manner is how a scenario is played.
type manner struct {
	face face
	mode config.DNSSEC
}

// player plays one scenario. It lives in a bubble.
type player struct {
	t *testing.T
	s *scenario
	manner
	w        *world.World
	cfg      *config.Config
	database string
	log      bytes.Buffer
	logger   *slog.Logger
	daemon   *policyd
	begin    time.Time

	last answer
	// wants are the lines that differ from what was got, for -update.
	wants map[int]string
}

// answer is what came of an ask step.
type answer struct {
	mapName, key string
	reply        string
	report       *explain.Report
	// status is the json map's reply where there is no report.
	status string
	took   time.Duration
	// asked and fetched are how many questions and fetches there had been
	// before, the second report's not counted.
	asked, fetched int
	// probed is how many mail servers had been visited before.
	probed int
	// chained is the same of questions for keys and delegations; the second report's
	// are counted with them.
	chained int
	shown   bool
}

func newPlayer(t *testing.T, s *scenario, how manner) (*player, error) {
	p := &player{t: t, s: s, manner: how, begin: time.Now(), wants: make(map[int]string)}
	p.logger = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if p.cfg, err = config.Parse("config", []byte(s.config)); err != nil {
		return nil, err
	}
	p.cfg.DNS.DNSSEC = p.mode
	if p.cfg.Store.Path != "" {
		p.database = filepath.Join(t.TempDir(), "policyd.db")
	}
	if p.w, err = world.New(); err != nil {
		return nil, err
	}
	if err = p.build(); err != nil {
		p.w.Close()
		return nil, err
	}
	return p, nil
}

// build makes the world as it is at the beginning.
func (p *player) build() error {
	if err := p.w.DNS.Load(p.s.zones); err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	for _, policy := range p.s.policies {
		if policy.label == "" {
			p.w.Web.Publish(policy.domain, policy.body)
		}
	}
	for _, line := range p.s.https {
		words := strings.Fields(line)
		if err := p.w.Web.Change(words[0], words[1:]...); err != nil {
			return fmt.Errorf("https: %w", err)
		}
	}
	for _, line := range p.s.mail {
		words := strings.Fields(line)
		if err := p.w.Mail.Change(words[0], words[1:]...); err != nil {
			return fmt.Errorf("mail: %w", err)
		}
	}
	return nil
}

// end stops everything. What still waits for a time-out gets it, since a bubble
// must be empty at its end.
func (p *player) end() {
	if p.daemon != nil {
		if err := p.daemon.close(); err != nil {
			p.t.Errorf("stop: %v", err)
		}
	}
	p.w.Close()
	pass(5 * time.Minute)
}

// pass lets time go by, and what has then begun come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// action does a step.
type action func(*player, step) error

func actions() map[string]action {
	return map[string]action{
		"ask": (*player).ask, "crowd": (*player).crowd, "want": (*player).want, "says": (*player).says,
		"reason": (*player).reason, "no-reason": (*player).noReason, "decisive": (*player).decisive,
		"source": (*player).source, "fault": (*player).fault, "would": (*player).would, "logged": (*player).logged, "history": (*player).history,
		"asked": (*player).asked, "question": (*player).question, "no-question": (*player).noQuestion,
		"mail": (*player).mail, "probes": (*player).probes, "visited": (*player).visited, "implicit": (*player).implicit,
		"rounds": (*player).rounds, "waited": (*player).waited, "fetches": (*player).fetches, "expires": (*player).expires,
		"at": (*player).at, "wait": (*player).wait,
		"set": (*player).set, "add": (*player).add, "remove": (*player).remove,
		"policy": (*player).policy, "resolver": (*player).resolver, "clock": (*player).clock, "warm": (*player).warm,
		"forge": (*player).attack, "sign": (*player).attack, "strip": (*player).attack, "edit": (*player).attack,
		"replay": (*player).attack, "mend": (*player).mend, "chain-asked": (*player).chainAsked,
		"start": (*player).start, "stop": (*player).stop, "restart": (*player).restart,
	}
}

func verbs() []string {
	var all []string
	for verb := range actions() {
		all = append(all, verb)
	}
	slices.Sort(all)
	return all
}

// play does all steps. It goes on after a want that is not met.
func (p *player) play() {
	if err := p.start(step{}); err != nil {
		p.t.Fatal(err)
	}
	do := actions()
	for _, st := range p.s.steps {
		if st.mode != "" && st.mode != p.mode.String() {
			continue
		}
		if err := do[st.verb()](p, st); err != nil {
			p.t.Errorf("%v\n%v%s", st, err, p.circumstances())
		}
	}
}

// circumstances say why a step may have failed, once for each answer.
func (p *player) circumstances() string {
	if p.last.shown {
		return ""
	}
	p.last.shown = true
	var b strings.Builder
	fmt.Fprintf(&b, "\nat +%v, reply: %s", time.Since(p.begin), clip(p.last.reply))
	if r := p.last.report; r != nil {
		fmt.Fprintf(&b, "\nverdict %s from %s, expires %v", r.Verdict, r.Source, r.Expires.Sub(p.begin))
		for _, reason := range r.Reasons {
			fmt.Fprintf(&b, "\n  %-16s %-24s %s (%s)", reason.Code, reason.Subject, reason.Text, reason.Cite)
		}
	}
	b.WriteString("\nasked:")
	for _, q := range p.questions() {
		fmt.Fprintf(&b, "\n  +%v %v %s %s", q.At.Sub(p.begin), q, q.Network, q.Server)
	}
	for _, f := range p.w.Web.Fetched() {
		fmt.Fprintf(&b, "\n  +%v fetch %s", f.At.Sub(p.begin), f.Domain)
	}
	return b.String()
}

func (p *player) start(step) (err error) {
	if p.daemon != nil {
		return errors.New("it runs already")
	}
	p.daemon, err = startDaemon(p.w, p.cfg, p.database, p.logger)
	synctest.Wait()
	return err
}

func (p *player) stop(step) error {
	if p.daemon == nil {
		return errors.New("it does not run")
	}
	d := p.daemon
	p.daemon = nil
	return d.close()
}

func (p *player) restart(st step) error {
	if err := p.stop(st); err != nil {
		return err
	}
	return p.start(st)
}

// ask asks one map and the json map. The other one is asked when the first has
// been answered, so that both have to work a destination out in one of the two runs.
func (p *player) ask(st step) error {
	if p.daemon == nil {
		return errors.New("the daemon does not run")
	}
	if len(st.args()) < 2 {
		return errors.New("want \"ask MAP KEY\"")
	}
	p.last = answer{mapName: st.args()[0], key: strings.Join(st.args()[1:], " "), asked: len(p.allQuestions()), fetched: len(p.w.Web.Fetched()), probed: len(p.w.Mail.Visited())}
	p.last.chained = len(p.chainQuestions())
	if p.last.mapName == "transport" {
		// It answers by what is known, and a report would have it known.
		return p.askMap()
	}
	if p.face == jsonFace && canonical(p.last.mapName) != "" {
		return p.ruling(p.askJSON, p.askMap)
	}
	return p.ruling(p.askMap, p.askJSON)
}

// ruling asks twice, and takes time and counts from the first. An answer that came
// because time was up says nothing of the other's.
func (p *player) ruling(first, second func() error) error {
	begin := time.Now()
	err := first()
	p.last.took = time.Since(begin)
	if err != nil || p.last.took >= p.cfg.Socketmap.Deadline {
		return err
	}
	// What the second asked for itself does not count; what a hit sets off in the
	// background does. A hit takes no time.
	synctest.Wait()
	asked, fetched, begin := len(p.allQuestions()), len(p.w.Web.Fetched()), time.Now()
	if err := second(); err != nil {
		return err
	}
	if time.Since(begin) > 0 {
		p.last.asked += len(p.allQuestions()) - asked
		p.last.fetched += len(p.w.Web.Fetched()) - fetched
	}
	return p.agree()
}

func (p *player) askMap() (err error) {
	p.last.reply, err = p.daemon.ask(p.last.mapName, p.last.key)
	return err
}

func (p *player) askJSON() (err error) {
	p.last.report, p.last.status, err = p.daemon.report(p.last.key)
	if err == nil && p.last.report != nil && p.last.reply == "" {
		p.last.reply = p.last.report.Replies[canonical(p.last.mapName)]
	}
	return err
}

// canonical is the name under which a report has the reply of a map; "" for a map
// that is told no ruling.
func canonical(mapName string) string {
	return map[string]string{
		"postfix": "postfix", "QUERY": "postfix", "postfix-tlsrpt": "postfix-tlsrpt", "QUERYwithTLSRPT": "postfix-tlsrpt",
		"sts": "sts", "tls": "tls", "exim": "exim",
	}[mapName]
}

// agree holds the two faces against each other.
func (p *player) agree() error {
	a := &p.last
	if canonical(a.mapName) == "" || p.cfg.Mode == verdict.Observe {
		return nil
	}
	word, _, _ := strings.Cut(a.reply, " ")
	if a.report == nil {
		if a.reply == "OK level=none" {
			word = "NOTFOUND" // so it is for Exim
		}
		if got, _, _ := strings.Cut(a.status, " "); got != word {
			return fmt.Errorf("%q, but the json map says %q", clip(a.reply), clip(a.status))
		}
		return nil
	}
	// Two replies of the longest policies do not fit in one report: it then holds
	// the beginning of one.
	got := a.report.Replies[canonical(a.mapName)]
	if begin, cut := strings.CutSuffix(got, "..."); got != a.reply && !(cut && a.report.Truncated && strings.HasPrefix(a.reply, begin)) {
		return fmt.Errorf("%q, but the json map says %q", clip(a.reply), clip(got))
	}
	if !strings.HasPrefix(canonical(a.mapName), "postfix") {
		return nil // it has words of its own
	}
	level, _, _ := strings.Cut(strings.TrimPrefix(a.reply, "OK "), " ")
	want := map[string]string{"none": "NOTFOUND", "defer": "TEMP"}[a.report.Verdict]
	if want == "" {
		want = a.report.Verdict
	}
	if level != want && !(a.report.Verdict == "none" && level == "may") {
		return fmt.Errorf("%q, but the json map's verdict is %q", clip(a.reply), a.report.Verdict)
	}
	return nil
}

// clip keeps a long reply out of the test's output.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// crowd asks the same many times at once; all must be told the same.
func (p *player) crowd(st step) error {
	if len(st.args()) != 3 {
		return errors.New("want \"crowd N MAP KEY\"")
	}
	n, err := strconv.Atoi(st.args()[0])
	if err != nil {
		return err
	}
	before, fetched, chained := len(p.allQuestions()), len(p.w.Web.Fetched()), len(p.chainQuestions())
	replies := make([]string, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { replies[i], errs[i] = p.daemon.ask(st.args()[1], st.args()[2]) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if others := slices.Compact(slices.Sorted(slices.Values(replies))); len(others) > 1 {
		return fmt.Errorf("different replies: %q", others)
	}
	if err := p.ask(step{words: append([]string{"ask"}, st.args()[1:]...)}); err != nil {
		return err
	}
	p.last.asked, p.last.fetched, p.last.chained = before, fetched, chained
	return nil
}

// want compares the reply. "TEMP" alone stands for every deferral.
func (p *player) want(st step) error {
	got := strings.TrimRight(p.last.reply, " ")
	if strings.HasPrefix(got, "TEMP ") {
		got = "TEMP"
	}
	if want := st.rest(); got != want {
		p.wants[st.line] = got
		return fmt.Errorf("want %q\ngot  %q", clip(want), clip(p.last.reply))
	}
	return nil
}

func (p *player) says(st step) error {
	if !strings.Contains(p.last.reply, st.rest()) {
		return errors.New("the reply does not say that")
	}
	return nil
}

// reasons returns those with a code, and a subject unless it is "".
func (p *player) reasons(st step) []explain.Reason {
	var found []explain.Reason
	if p.last.report == nil {
		return nil
	}
	for _, r := range p.last.report.Reasons {
		if r.Code == st.args()[0] && (len(st.args()) < 2 || r.Subject == st.args()[1]) {
			found = append(found, r)
		}
	}
	return found
}

func (p *player) reason(st step) error {
	if len(p.reasons(st)) == 0 {
		return errors.New("no such reason")
	}
	return nil
}

func (p *player) noReason(st step) error {
	if len(p.reasons(st)) > 0 {
		return errors.New("there is such a reason")
	}
	return nil
}

func (p *player) decisive(st step) error {
	if p.last.report == nil {
		return errors.New("there is no report")
	}
	reasons := p.last.report.Reasons
	if last := reasons[len(reasons)-1]; last.Code != st.rest() {
		return fmt.Errorf("the last reason is %s", last.Code)
	}
	return nil
}

func (p *player) source(st step) error {
	if p.last.report == nil || p.last.report.Source != st.rest() {
		return errors.New("another source")
	}
	return nil
}

// would is "would VERDICT SOURCE", or "would same".
func (p *player) would(st step) error {
	if p.last.report == nil {
		return errors.New("there is no report")
	}
	got := "same"
	if o := p.last.report.Observed; o != nil {
		got = o.Verdict + " " + o.Source
	}
	if got != st.rest() {
		return fmt.Errorf("it would be %s", got)
	}
	return nil
}

// logged is "logged N TEXT": so many records since the beginning have the text.
func (p *player) logged(st step) error {
	synctest.Wait()
	return compare([]string{"=", st.args()[0]}, strings.Count(p.log.String(), strings.Join(st.args()[1:], " ")), strconv.Atoi)
}

// history is "history NAME CHANGES": what became of verdicts on a name, oldest first, or
// "nothing".
func (p *player) history(st step) error {
	synctest.Wait()
	var words []string
	for _, c := range p.daemon.keep.Changes(history.Filter{Name: st.args()[0]}) {
		word := c.Before.String() + " -> " + c.After.String()
		if c.Downgrade {
			word += " (" + string(c.Cause) + ")"
		}
		words = append(words, word)
	}
	slices.Reverse(words)
	if got := cmp.Or(strings.Join(words, "; "), "nothing"); got != strings.Join(st.args()[1:], " ") {
		return fmt.Errorf("what became of it: %s", got)
	}
	return nil
}

func (p *player) fault(st step) error {
	if p.last.report == nil || p.last.report.Fault != st.rest() {
		return fmt.Errorf("another's fault: %v", p.last.report)
	}
	return nil
}

// compare reads "<= 5".
func compare[T int | time.Duration](words []string, got T, read func(string) (T, error)) error {
	if len(words) != 2 {
		return fmt.Errorf("want an operator and a number, not %q", words)
	}
	want, err := read(words[1])
	if err != nil {
		return err
	}
	ok := false
	switch words[0] {
	case "<=":
		ok = got <= want
	case ">=":
		ok = got >= want
	case "=":
		ok = got == want
	default:
		return fmt.Errorf("unknown operator %q", words[0])
	}
	if !ok {
		return fmt.Errorf("it is %v", got)
	}
	return nil
}

// allQuestions are those about destinations. What is asked for to prove the answers is
// counted apart.
func (p *player) allQuestions() []world.Question {
	return slices.DeleteFunc(p.w.DNS.Asked(), func(q world.Question) bool { return q.Probe || q.Chain })
}

// chainQuestions are those for keys and delegations.
func (p *player) chainQuestions() []world.Question {
	return slices.DeleteFunc(p.w.DNS.Asked(), func(q world.Question) bool { return q.Probe || !q.Chain })
}

// questions are those since the last ask began.
func (p *player) questions() []world.Question { return p.allQuestions()[p.last.asked:] }

func (p *player) chainAsked(st step) error {
	return compare(st.args(), len(p.chainQuestions())-p.last.chained, strconv.Atoi)
}

func (p *player) asked(st step) error { return compare(st.args(), len(p.questions()), strconv.Atoi) }

// rounds: every answer takes world.Latency and nothing else takes time, unless the
// scenario says so.
func (p *player) rounds(st step) error {
	return compare(st.args(), int((p.last.took+world.Latency-1)/world.Latency), strconv.Atoi)
}

func (p *player) waited(st step) error { return compare(st.args(), p.last.took, time.ParseDuration) }

func (p *player) countQuestions(st step) int {
	n := 0
	for _, q := range p.questions() {
		if q.String() == st.rest() {
			n++
		}
	}
	return n
}

func (p *player) question(st step) error {
	if p.countQuestions(st) == 0 {
		return errors.New("that was not asked")
	}
	return nil
}

func (p *player) noQuestion(st step) error {
	if p.countQuestions(st) > 0 {
		return errors.New("that was asked")
	}
	return nil
}

func (p *player) fetches(st step) error {
	n := len(p.w.Web.Fetched()) - p.last.fetched
	if len(st.args()) == 1 {
		return compare([]string{"=", st.args()[0]}, n, strconv.Atoi)
	}
	return compare(st.args(), n, strconv.Atoi)
}

// mail is "mail HOST:PORT SETTING".
func (p *player) mail(st step) error {
	if len(st.args()) < 2 {
		return errors.New("want \"mail HOST:PORT SETTING\"")
	}
	return p.w.Mail.Change(st.args()[0], st.args()[1:]...)
}

func (p *player) probes(st step) error {
	n := len(p.w.Mail.Visited()) - p.last.probed
	if len(st.args()) == 1 {
		return compare([]string{"=", st.args()[0]}, n, strconv.Atoi)
	}
	return compare(st.args(), n, strconv.Atoi)
}

// visited counts all connections to mail servers since the beginning.
func (p *player) visited(st step) error {
	return compare([]string{"=", st.rest()}, len(p.w.Mail.Visited()), strconv.Atoi)
}

// implicit is "implicit HOST STATE", or "implicit because TEXT".
func (p *player) implicit(st step) error {
	if p.last.report == nil || p.last.report.Implicit == nil {
		return errors.New("the report says nothing of implicit TLS")
	}
	i, a := p.last.report.Implicit, st.args()
	if len(a) > 1 && a[0] == "because" {
		if want := strings.Join(a[1:], " "); !strings.Contains(i.Because, want) {
			return fmt.Errorf("because %q", i.Because)
		}
		return nil
	}
	for _, h := range i.Hosts {
		if len(a) == 2 && h.Host == a[0] {
			if h.State != a[1] {
				return fmt.Errorf("it is %s: %s %s", h.State, h.Stage, h.Error)
			}
			return nil
		}
	}
	return errors.New("no such host")
}

func (p *player) expires(st step) error {
	if p.last.report == nil {
		return errors.New("there is no report")
	}
	return compare(st.args(), time.Until(p.last.report.Expires).Round(time.Second), time.ParseDuration)
}

// at moves the clock to a time since the beginning.
func (p *player) at(st step) error {
	d, err := time.ParseDuration(strings.TrimPrefix(st.rest(), "+"))
	if err != nil {
		return err
	}
	left := d - time.Since(p.begin)
	if left < 0 {
		return fmt.Errorf("it is +%v already", time.Since(p.begin))
	}
	pass(left)
	return nil
}

func (p *player) wait(st step) error {
	d, err := time.ParseDuration(st.rest())
	if err == nil {
		pass(d)
	}
	return err
}

// set is "set zone NAME STATUS" or "set NAME TYPE STATUS".
func (p *player) set(st step) error {
	a := st.args()
	if len(a) < 3 {
		return errors.New("want \"set zone NAME STATUS\" or \"set NAME TYPE STATUS\"")
	}
	if a[0] != "zone" {
		return p.w.DNS.SetStatus(a[0], a[1], a[2:]...)
	}
	return p.w.DNS.SetZone(a[1], a[2:]...)
}

func (p *player) add(st step) error { return p.w.DNS.Add(st.rest()) }

func (p *player) remove(st step) error {
	if len(st.args()) != 2 {
		return errors.New("want \"remove NAME TYPE\"")
	}
	return p.w.DNS.Remove(st.args()[0], st.args()[1])
}

// policy is "policy DOMAIN serve LABEL" or "policy DOMAIN SETTING".
func (p *player) policy(st step) error {
	a := st.args()
	if len(a) == 3 && a[1] == "serve" {
		i := slices.IndexFunc(p.s.policies, func(x policyText) bool { return x.domain == a[0] && x.label == a[2] })
		if i < 0 {
			return fmt.Errorf("there is no section \"policy %s %s\"", a[0], a[2])
		}
		p.w.Web.Publish(a[0], p.s.policies[i].body)
		return nil
	}
	if len(a) < 2 {
		return errors.New("want \"policy DOMAIN SETTING\"")
	}
	return p.w.Web.Change(a[0], a[1:]...)
}

// resolver is "resolver BEHAVIOUR" or "resolver ADDRESS BEHAVIOUR".
func (p *player) resolver(st step) error {
	a := st.args()
	if len(a) == 0 || len(a) > 2 {
		return errors.New("want \"resolver [ADDRESS:PORT] BEHAVIOUR\"")
	}
	b, err := world.ParseBehaviour(a[len(a)-1])
	if err != nil {
		return err
	}
	server := ""
	if len(a) == 2 {
		server = a[0]
	}
	p.w.DNS.Behave(server, b)
	return nil
}

// clock is "clock OFFSET": how far this host's clock is ahead of everybody else's.
func (p *player) clock(st step) error {
	d, err := time.ParseDuration(strings.TrimPrefix(st.rest(), "+"))
	if err == nil {
		p.w.DNS.SetClock(d)
	}
	return err
}

func (p *player) attack(st step) error { return p.w.DNS.Attack(st.words...) }

func (p *player) mend(st step) error { return p.w.DNS.Mend(st.args()...) }

// warm lets the validator learn the chain of some zones, by a question about a name in
// each that nobody has. A daemon that trusts another's validation learns nothing.
func (p *player) warm(st step) error {
	if len(st.args()) == 0 {
		return errors.New("want \"warm ZONE...\"")
	}
	if p.mode != config.DNSSECValidate {
		return nil
	}
	s := p.daemon.stack.Resolver.Session()
	defer s.Close()
	for _, zone := range st.args() {
		if a := s.TXT(context.Background(), "warm."+zone); a.Outcome == verdict.Failed {
			return fmt.Errorf("%s: %s", zone, a.Failure.Detail)
		}
	}
	return nil
}
