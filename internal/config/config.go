package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// maxFile is the longest configuration that is read, in bytes: some 200,000
// overrides.
const maxFile = 16 << 20

// maxCAFile is the longest certificate file that is read, in bytes; the roots of
// a whole distribution are 0.2 MB.
const maxCAFile = 16 << 20

var (
	// ErrTooLong: the configuration is longer than 16 MiB. Nothing of it was
	// read: most likely it is another file.
	ErrTooLong = errors.New("config: longer than 16 MiB")
	// ErrCAFile: ca_file cannot be read or holds no certificate. No policy could
	// be fetched with it; going on with the system's roots instead would trust
	// others than the operator said.
	ErrCAFile = errors.New("config: no usable ca_file")
)

// Config is everything that policyd.toml can say. Default returns the settings
// of an empty file. In a zero value each signal is off and each limit is unset;
// the packages that take them read 0 as their own default.
type Config struct {
	// File is the name that Load or Parse was given; empty for Default.
	File string
	// Mode is verdict.Enforce, or verdict.Observe: evaluate, log and count, but
	// answer as if there were no policy.
	Mode verdict.Mode

	Socketmap Socketmap
	DNS       DNS
	MTASTS    MTASTS
	Signals   Signals
	Probe     Probe
	Postfix   Postfix
	Cache     Cache
	Store     Store
	Control   Control
	HTTP      HTTP
	Log       Log
	Process   Process
	// Overrides are the [[override]] entries.
	Overrides Overrides

	// warnings are those that do not depend on the time.
	warnings Problems
}

// Socketmap is where and how questions are answered.
type Socketmap struct {
	// Listen holds at least one address and none twice. Sockets passed by
	// systemd come before them.
	Listen []postfixmap.Address
	// SocketMode is the permissions of unix sockets: who may write may ask.
	SocketMode fs.FileMode
	// Deadline is how long a client waits for an answer that is not known yet,
	// 100 ms to 90 s.
	Deadline time.Duration
	// MaxConnections bounds the open connections of all listeners together; at
	// least 1.
	MaxConnections int
}

// DNS is whom to ask, and whom to believe.
type DNS struct {
	// Servers are the resolvers, none twice; empty means those of
	// /etc/resolv.conf.
	Servers []netip.AddrPort
	DNSSEC  DNSSEC
	// TrustAnchors names a file of DS or DNSKEY records, absolute, for
	// DNSSECValidate; empty means the system's, else those built in.
	TrustAnchors string
	// TrustRemote lets DNSSECTrustAD believe servers that are not on loopback.
	TrustRemote bool
	// Timeout is how long one server has for one try, 100 ms to 30 s.
	Timeout time.Duration
}

// DNSSEC says where the proof of an answer comes from. The zero value is off: it
// proves nothing.
type DNSSEC uint8

const (
	// DNSSECOff: no DANE and no signals from DNS.
	DNSSECOff DNSSEC = iota
	// DNSSECTrustAD: the AD bit (RFC 4035 §3.2.3) of a validating resolver.
	DNSSECTrustAD
	// DNSSECValidate: this process validates (RFC 4035 §5).
	DNSSECValidate
)

// String returns the word in the file.
func (d DNSSEC) String() string {
	switch d {
	case DNSSECOff:
		return "off"
	case DNSSECTrustAD:
		return "trust-ad"
	case DNSSECValidate:
		return "validate"
	}
	return fmt.Sprintf("dnssec(%d)", uint8(d))
}

// MTASTS is how MTA-STS policies (RFC 8461) are had and used.
type MTASTS struct {
	Mode verdict.Mode
	// Timeout bounds a whole policy fetch, 100 ms to 1 min.
	Timeout time.Duration
	// AllowNetworks are networks that policy hosts may be in although they are
	// not public.
	AllowNetworks []netip.Prefix
	// CAFile names a PEM file of roots, absolute; empty means those of the
	// system. See Roots.
	CAFile string
}

// Roots returns the certificates that policy hosts are checked against. Nil, with
// a nil error, means those of the system. The file is read anew each time; what
// goes wrong wraps ErrCAFile.
func (m MTASTS) Roots() (*x509.CertPool, error) {
	if m.CAFile == "" {
		return nil, nil
	}
	pem, err := readFile(m.CAFile, maxCAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCAFile, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s holds no PEM certificate", ErrCAFile, m.CAFile)
	}
	return pool, nil
}

// Signals are the signals from DNS beside DANE and MTA-STS.
type Signals struct {
	// Prefix is the one of MX names that begin with starttls- or smtps-.
	Prefix verdict.Mode
	// TXT is the one of the TXT record at _smtp-strict and the domain, RR that of the
	// record type with the number RRType, 65280 to 65534; see package signal.
	TXT, RR verdict.Mode
	RRType  int
	// Banner is the one of what mail hosts said on port 25 before.
	Banner verdict.Mode
	// Implicit is TLS on a port of its own, which smtps- promises beside.
	Implicit Implicit
}

// Postfix is what is particular to Postfix.
type Postfix struct {
	// DANE says how Postfix is to enforce DANE.
	DANE DANE
	// DANEResolver is the resolver that Postfix uses; the zero value means that it
	// is found out.
	DANEResolver netip.AddrPort
	// ReportLevel is the level at which MTA-STS testing policies and failed
	// fetches are reported to Postfix: "may", or empty not to report them.
	ReportLevel string
}

// DANE says how an MTA is to enforce DANE. The zero value asks nothing of its own
// resolver.
type DANE uint8

const (
	// DANEFingerprint: TLSA records are written as fingerprints.
	DANEFingerprint DANE = iota
	// DANENative: the MTA looks TLSA records up itself.
	DANENative
	// DANEAuto: native where its resolver is found to validate, else fingerprint.
	DANEAuto
)

// String returns the word in the file.
func (d DANE) String() string {
	switch d {
	case DANEFingerprint:
		return "fingerprint"
	case DANENative:
		return "native"
	case DANEAuto:
		return "auto"
	}
	return fmt.Sprintf("dane(%d)", uint8(d))
}

// Cache bounds the rulings that are kept in memory.
type Cache struct {
	// Entries is how many there may be; at least 1.
	Entries int
	// MinTTL and MaxTTL bound how long a ruling is kept; MinTTL is not above
	// MaxTTL, and both are at most a week.
	MinTTL, MaxTTL time.Duration
	// RefreshAhead renews what is in use before it ends.
	RefreshAhead bool
}

// Control is how the command line reaches the daemon.
type Control struct {
	// Socket is a unix socket, absolute; empty: there is none.
	Socket string
}

// HTTP is where an operator's monitoring asks. The zero value: nowhere.
type HTTP struct {
	// Listen is an address; the zero value means none. One that is not on loopback takes
	// Public.
	Listen netip.AddrPort
	// Public lets Listen be an address that other hosts reach.
	Public bool
	// Hosts are the names that may be asked for beside addresses and localhost: in lower
	// case, without a port, none twice.
	Hosts []string
}

// Store is where policies survive a restart.
type Store struct {
	// Path is the database file, absolute; empty keeps policies in memory only.
	// Whether it can be written is found out by whoever opens it.
	Path string
	// History is how many changes of verdicts are kept; 0: none.
	History int
	// Shared is what the nodes of a fleet have in common.
	Shared Shared
}

// Log is how records are written.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is the form of log records. The zero value is text.
type LogFormat uint8

const (
	// LogText: key=value pairs.
	LogText LogFormat = iota
	// LogJSON: one JSON object a line.
	LogJSON
)

// String returns the word in the file.
func (f LogFormat) String() string {
	switch f {
	case LogText:
		return "text"
	case LogJSON:
		return "json"
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// Default returns the settings that hold where the file says nothing. Each call
// returns a value of its own.
func Default() *Config {
	return &Config{
		Mode: verdict.Enforce,
		Socketmap: Socketmap{
			Listen:         []postfixmap.Address{defaultListen()},
			SocketMode:     0o660,
			Deadline:       12 * time.Second,
			MaxConnections: 4096,
		},
		DNS:    DNS{DNSSEC: DNSSECValidate, Timeout: 2 * time.Second},
		MTASTS: MTASTS{Mode: verdict.Enforce, Timeout: 10 * time.Second},
		Signals: Signals{
			Prefix: verdict.Enforce, RRType: int(signal.DefaultRRType),
			Implicit: Implicit{Port: 26, Transport: "tls26", Turn: 15 * time.Minute, Own: OwnDomains{Ask: true}},
		},
		Postfix: Postfix{DANE: DANEAuto},
		Cache: Cache{
			Entries:      1_000_000,
			MinTTL:       30 * time.Second,
			MaxTTL:       24 * time.Hour,
			RefreshAhead: true,
		},
		Store:   Store{Path: "/var/lib/tlsverdict/policyd.db", History: 10_000},
		Control: Control{Socket: "/run/tlsverdict/control.sock"},
		Log:     Log{Level: slog.LevelInfo, Format: LogText},
		Process: Process{Landlock: LandlockAuto},
	}
}

func defaultListen() postfixmap.Address {
	a, err := postfixmap.ParseAddress("inet:127.0.0.1:8461")
	if err != nil {
		panic(err)
	}
	return a
}

// Rules returns the settings that a decision rests on. While it is not known what
// DANEAuto leads to, it is fingerprints, which are right for every MTA.
func (c *Config) Rules() verdict.Rules {
	how := verdict.ByFingerprint
	if c.Postfix.DANE == DANENative {
		how = verdict.Native
	}
	rules := verdict.Rules{
		WithoutDNSSEC: c.DNS.DNSSEC == DNSSECOff,
		STS:           c.MTASTS.Mode,
		Prefix:        c.Signals.Prefix,
		TXT:           c.Signals.TXT,
		RR:            c.Signals.RR,
		RRType:        uint16(c.Signals.RRType),
		Banner:        c.Signals.Banner,
		DANE:          how,
	}
	if c.Signals.Implicit.On {
		rules.ImplicitPort = c.Signals.Implicit.Port
	}
	return rules
}

// Load reads a file, as Parse does, and checks that the files it names can be
// used. The error is Problems where the content is wrong, and what the operating
// system said where the file could not be read (so that fs.ErrNotExist can be
// told apart).
func Load(path string) (*Config, error) {
	data, err := readFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: reading the configuration: %w", err)
	}
	c, r := read(path, data)
	if _, err := c.MTASTS.Roots(); err != nil {
		r.fail("mta_sts.ca_file", "mta_sts.ca_file: %s", strings.TrimPrefix(err.Error(), ErrCAFile.Error()+": "))
	}
	return r.result(c)
}

// Parse reads the content of a configuration file. It opens nothing and asks
// nobody. name stands in what is said about it. The error is Problems: all of
// them at once, unless the text is not TOML, where reading ends at the first
// mistake. There is no Config beside an error.
func Parse(name string, data []byte) (*Config, error) {
	c, r := read(name, data)
	return r.result(c)
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w", path, ErrTooLong)
	}
	return data, err
}
