package status

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"tlsverdict/internal/verdict"
)

// Snapshot is how policyd is doing at a moment. The zero value is that of a daemon of
// which nothing is known: it shows as one that does not work.
type Snapshot struct {
	// Time is the moment, in UTC.
	Time time.Time `json:"time"`
	// Host is the name of the machine, Version that of the program; may be empty.
	Host    string `json:"host,omitempty"`
	Version string `json:"version,omitempty"`
	// Started is when the process began.
	Started time.Time `json:"started"`
	// Observe says that MTAs are told of no policy, whatever the verdict.
	Observe bool   `json:"observe"`
	DNSSEC  DNSSEC `json:"dnssec"`
	// Upstreams are the resolvers in the order of the configuration.
	Upstreams []Upstream `json:"upstreams"`
	// Hour and Day are the answers that MTAs were given, by verdict.
	Hour Window `json:"hour"`
	Day  Window `json:"day"`
	// Deferrals are the destinations that mail waits or waited for, newest first, at
	// most MaxDeferrals; DeferralsLeftOut counts those that had to make room.
	Deferrals        []Deferral `json:"deferrals"`
	DeferralsLeftOut uint64     `json:"deferrals_left_out"`
	Policies         Policies   `json:"policies"`
	Changes          Changes    `json:"changes"`
	Cache            Cache      `json:"cache"`
	Connections      Connection `json:"connections"`
	Store            Store      `json:"store"`
	Pins             Pins       `json:"pins"`
}

// DNSSEC says whether anything can be proven.
type DNSSEC struct {
	// Mode is validate, trust-ad or off.
	Mode string `json:"mode"`
	// Works: secure answers can be told from insecure ones, through at least one
	// upstream.
	Works bool `json:"works"`
	// Problem says what is wrong and what to do; empty when nothing is.
	Problem string `json:"problem,omitempty"`
	// Warnings say that the trust anchors will not do for ever.
	Warnings []string `json:"warnings,omitempty"`
	// Checked is when that was last looked at; zero for never.
	Checked time.Time `json:"checked,omitzero"`
}

// Upstream is a resolver that is asked.
type Upstream struct {
	Address   string `json:"address"`
	Answers   bool   `json:"answers"`
	Validates bool   `json:"validates"`
	// Problem says what is wrong and what to do; empty when nothing is.
	Problem string    `json:"problem,omitempty"`
	Checked time.Time `json:"checked,omitzero"`
}

// Kind is a kind of verdict, as the plots tell them apart: strictest first, then no
// policy, then mail that waits.
type Kind uint8

const (
	DANEOnly Kind = iota
	Fingerprint
	DANE
	Secure
	Encrypt
	// Override is a verdict in the operator's own words.
	Override
	None
	Defer
	kinds
)

// KindOf returns the kind of a verdict.
func KindOf(v verdict.Verdict) Kind {
	switch v.(type) {
	case verdict.DANEOnly:
		return DANEOnly
	case verdict.Fingerprint:
		return Fingerprint
	case verdict.DANE:
		return DANE
	case verdict.STS, verdict.WebPKI:
		return Secure
	case verdict.Encrypt:
		return Encrypt
	case verdict.Fixed:
		return Override
	case verdict.NoPolicy:
		return None
	case verdict.Defer:
		return Defer
	}
	panic(fmt.Sprintf("status: a verdict of type %T has no kind", v))
}

// String is the kind's word, which is the verdict's where it has one.
func (k Kind) String() string {
	switch k {
	case DANEOnly:
		return "dane-only"
	case Fingerprint:
		return "fingerprint"
	case DANE:
		return "dane"
	case Secure:
		return "secure"
	case Encrypt:
		return "encrypt"
	case Override:
		return "override"
	case None:
		return "none"
	case Defer:
		return "defer"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// ParseKind returns the kind that has this word.
func ParseKind(word string) (k Kind, ok bool) {
	for k := range kinds {
		if k.String() == word {
			return k, true
		}
	}
	return 0, false
}

// Meaning says in a few words what mail servers do.
func (k Kind) Meaning() string {
	switch k {
	case DANEOnly:
		return "DANE at every host"
	case Fingerprint:
		return "DANE, told as fingerprints"
	case DANE:
		return "DANE where hosts have it"
	case Secure:
		return "certificate and name checked"
	case Encrypt:
		return "TLS, certificate not checked"
	case Override:
		return "your own word"
	case None:
		return "no policy; main.cf decides"
	case Defer:
		return "mail waits"
	}
	panic("status: no such kind")
}

// Counts are numbers of answers by kind.
type Counts [kinds]uint64

// Sum is the number of all.
func (c Counts) Sum() uint64 {
	var n uint64
	for _, k := range c {
		n += k
	}
	return n
}

// MarshalJSON writes an object with each kind by its word.
func (c Counts) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for k, n := range c {
		if k > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%d", Kind(k), n)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Window is a stretch of time, in steps, up to now.
type Window struct {
	// From is when it begins, and To when it ends.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Step is the length of a step, in seconds.
	Step int `json:"step"`
	// Total is the sum of all steps.
	Total Counts `json:"total"`
	Steps []Step `json:"steps"`
}

// Step is one of them.
type Step struct {
	// Known: policyd ran then.
	Known  bool   `json:"known"`
	Counts Counts `json:"counts"`
}

// Deferral is a destination that mail waits or waited for.
type Deferral struct {
	Destination string `json:"destination"`
	// Reason is the code of the decisive reason, and Text what the MTA was told.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Fault is whose it is: remote, operator or ours.
	Fault string    `json:"fault"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Times is how often it was worked out and came to that.
	Times uint64 `json:"times"`
	// Over is when it was worked out and came to something else; zero for not yet.
	Over time.Time `json:"over,omitzero"`
}

// Policies are the MTA-STS policies that are kept.
type Policies struct {
	// Kept is how many there are, Expired how many of them have ended, and Failing how
	// many hold, and could not be fetched again when they should have been.
	Kept    int `json:"kept"`
	Expired int `json:"expired"`
	Failing int `json:"failing"`
	// List has those of Failing that end first, at most 20.
	List []Policy `json:"list"`
	// Checked is when they were looked at; zero for not yet.
	Checked time.Time `json:"checked,omitzero"`
}

// Policy is one that holds, and could not be fetched again.
type Policy struct {
	Domain  string    `json:"domain"`
	Mode    string    `json:"mode"`
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"`
	// Failures is how often it could not be fetched since it last was; Failure is
	// why, the last time, and Failed when that was.
	Failures int       `json:"failures"`
	Failure  string    `json:"failure,omitempty"`
	Failed   time.Time `json:"failed,omitzero"`
	// NextTry is when it is fetched again.
	NextTry time.Time `json:"next_try,omitzero"`
}

// Changes are the latest changes of verdicts, newest first, at most 100.
type Changes struct {
	List []Change `json:"list"`
	// Downgrades is how many of all changes of the last day are downgrades.
	Downgrades int `json:"downgrades"`
	// Problem is why they may not be all; empty when they are.
	Problem string `json:"problem,omitempty"`
}

// Change is a destination whose verdict became another one.
type Change struct {
	Time        time.Time `json:"time"`
	Destination string    `json:"destination"`
	// Before and After are verdict and source: "dane-only by dane".
	Before string `json:"before"`
	After  string `json:"after"`
	// Reason is what decided the new one.
	Reason string `json:"reason,omitempty"`
	// Downgrade: less is demanded than before.
	Downgrade bool `json:"downgrade"`
}

// Cache is the engine's, with its counters since the start or the last reload.
type Cache struct {
	// Entries is about how many verdicts are kept, and Room how many may be.
	Entries int `json:"entries"`
	Room    int `json:"room"`
	// Hits were answered with what was known, Misses had to wait; Refreshes were begun
	// ahead of a verdict's end.
	Hits      uint64 `json:"hits"`
	Misses    uint64 `json:"misses"`
	Refreshes uint64 `json:"refreshes"`
	// Busy were told to come back, since too much was being worked out.
	Busy uint64 `json:"busy"`
	// Panics were spoiled by a defect of this program.
	Panics uint64 `json:"panics"`
}

// Connection is what MTAs do on the socketmap listeners; counters are since the start.
type Connection struct {
	Open int `json:"open"`
	Room int `json:"room"`
	// Requests were answered.
	Requests uint64 `json:"requests"`
	// Shed were closed to make room, Refused not taken, Malformed sent what is no
	// request, Unfinished did not end one in time, Unread did not read their answers.
	Shed       uint64 `json:"shed"`
	Refused    uint64 `json:"refused"`
	Malformed  uint64 `json:"malformed"`
	Unfinished uint64 `json:"unfinished"`
	Unread     uint64 `json:"unread"`
}

// Store is how what must survive a restart is kept.
type Store struct {
	// Durable: the last write to disk worked. Memory: there is no file, by the operator's
	// wish.
	Durable bool `json:"durable"`
	Memory  bool `json:"memory"`
	// Waiting are changes not on disk yet, Failures the writes that failed.
	Waiting  int    `json:"waiting"`
	Failures uint64 `json:"failures"`
}

// Pins are the hosts pinned by their greeting.
type Pins struct {
	// On: the signal is used, or observed.
	On    bool `json:"on"`
	Hosts int  `json:"hosts"`
}
