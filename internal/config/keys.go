package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// key is a setting: what stands here is all that the reader, the hints and the
// checks of the reference manual know of it.
type key[T any] struct {
	// path is the full name: table, dot, key.
	path string
	// def is the default, as the file would say it; empty where there is none.
	def string
	// set takes a TOML value over, or says what is allowed.
	set func(into *T, v any) error
}

// bind makes a key of a field and what reads its value.
func bind[T, V any](path, def string, field func(*T) *V, parse func(any) (V, error)) key[T] {
	return key[T]{path, def, func(into *T, v any) error {
		value, err := parse(v)
		if err == nil {
			*field(into) = value
		}
		return err
	}}
}

// keys are the settings of this release.
func keys() []key[Config] {
	return slices.Concat(mapKeys(), dnsKeys(), probeKeys(), keepKeys(), processKeys())
}

func mapKeys() []key[Config] {
	return []key[Config]{
		bind("mode", `"enforce"`, func(c *Config) *verdict.Mode { return &c.Mode },
			oneOf(word[verdict.Mode]{"enforce", verdict.Enforce}, word[verdict.Mode]{"observe", verdict.Observe})),
		bind("socketmap.listen", `["inet:127.0.0.1:8461"]`, func(c *Config) *[]postfixmap.Address { return &c.Socketmap.Listen },
			list(address)),
		bind("socketmap.socket_mode", `"0660"`, func(c *Config) *fs.FileMode { return &c.Socketmap.SocketMode }, fileMode),
		bind("socketmap.deadline", `"12s"`, func(c *Config) *time.Duration { return &c.Socketmap.Deadline },
			duration(100*time.Millisecond, 90*time.Second)),
		bind("socketmap.max_connections", `4096`, func(c *Config) *int { return &c.Socketmap.MaxConnections },
			integer(1, 1_000_000)),
		bind("postfix.dane", `"auto"`, func(c *Config) *DANE { return &c.Postfix.DANE },
			oneOf(word[DANE]{"auto", DANEAuto}, word[DANE]{"native", DANENative}, word[DANE]{"fingerprint", DANEFingerprint})),
		bind("postfix.dane_resolver", `""`, func(c *Config) *netip.AddrPort { return &c.Postfix.DANEResolver }, serverOrNone),
		bind("postfix.report_level", `""`, func(c *Config) *string { return &c.Postfix.ReportLevel },
			oneOf(word[string]{"", ""}, word[string]{"may", "may"})),
	}
}

func dnsKeys() []key[Config] {
	return []key[Config]{
		bind("dns.servers", `[]`, func(c *Config) *[]netip.AddrPort { return &c.DNS.Servers }, list(server)),
		bind("dns.dnssec", `"validate"`, func(c *Config) *DNSSEC { return &c.DNS.DNSSEC },
			oneOf(word[DNSSEC]{"validate", DNSSECValidate}, word[DNSSEC]{"trust-ad", DNSSECTrustAD}, word[DNSSEC]{"off", DNSSECOff})),
		bind("dns.trust_anchors", `""`, func(c *Config) *string { return &c.DNS.TrustAnchors }, absolute),
		bind("dns.trust_remote", `false`, func(c *Config) *bool { return &c.DNS.TrustRemote }, boolean),
		bind("dns.timeout", `"2s"`, func(c *Config) *time.Duration { return &c.DNS.Timeout },
			duration(100*time.Millisecond, 30*time.Second)),
		bind("mta_sts.mode", `"enforce"`, func(c *Config) *verdict.Mode { return &c.MTASTS.Mode }, signalMode()),
		bind("mta_sts.timeout", `"10s"`, func(c *Config) *time.Duration { return &c.MTASTS.Timeout },
			duration(100*time.Millisecond, time.Minute)),
		bind("mta_sts.allow_networks", `[]`, func(c *Config) *[]netip.Prefix { return &c.MTASTS.AllowNetworks }, list(network)),
		bind("mta_sts.ca_file", `""`, func(c *Config) *string { return &c.MTASTS.CAFile }, absolute),
		bind("signals.prefix", `"enforce"`, func(c *Config) *verdict.Mode { return &c.Signals.Prefix }, signalMode()),
		bind("signals.txt", `"off"`, func(c *Config) *verdict.Mode { return &c.Signals.TXT }, signalMode()),
		bind("signals.rr", `"off"`, func(c *Config) *verdict.Mode { return &c.Signals.RR }, signalMode()),
		bind("signals.rr_type", `65400`, func(c *Config) *int { return &c.Signals.RRType },
			integer(int64(signal.LeastRRType), int64(signal.MostRRType))),
		bind("signals.banner", `"off"`, func(c *Config) *verdict.Mode { return &c.Signals.Banner }, signalMode()),
	}
}

func keepKeys() []key[Config] {
	return []key[Config]{
		bind("cache.entries", `1_000_000`, func(c *Config) *int { return &c.Cache.Entries }, integer(1, 100_000_000)),
		bind("cache.min_ttl", `"30s"`, func(c *Config) *time.Duration { return &c.Cache.MinTTL }, duration(0, week)),
		bind("cache.max_ttl", `"24h"`, func(c *Config) *time.Duration { return &c.Cache.MaxTTL }, duration(time.Second, week)),
		bind("cache.refresh_ahead", `true`, func(c *Config) *bool { return &c.Cache.RefreshAhead }, boolean),
		bind("store.path", `"/var/lib/tlsverdict/policyd.db"`, func(c *Config) *string { return &c.Store.Path }, absolute),
		bind("store.history", `10_000`, func(c *Config) *int { return &c.Store.History }, integer(0, 100_000)),
		{"store.shared", `""`, setShared},
		bind("store.shared_password_file", `""`, func(c *Config) *string { return &c.Store.Shared.PasswordFile }, secretFile),
		bind("store.shared_key_file", `""`, func(c *Config) *string { return &c.Store.Shared.KeyFile }, secretFile),
		bind("store.shared_ca_file", `""`, func(c *Config) *string { return &c.Store.Shared.CAFile }, secretFile),
		bind("store.shared_cert_file", `""`, func(c *Config) *string { return &c.Store.Shared.CertFile }, secretFile),
		bind("control.socket", `"/run/tlsverdict/control.sock"`, func(c *Config) *string { return &c.Control.Socket }, absolute),
		bind("http.listen", `""`, func(c *Config) *netip.AddrPort { return &c.HTTP.Listen }, httpListen),
		bind("http.public", `false`, func(c *Config) *bool { return &c.HTTP.Public }, boolean),
		bind("http.hosts", `[]`, func(c *Config) *[]string { return &c.HTTP.Hosts }, list(askedName)),
		bind("log.level", `"info"`, func(c *Config) *slog.Level { return &c.Log.Level },
			oneOf(word[slog.Level]{"debug", slog.LevelDebug}, word[slog.Level]{"info", slog.LevelInfo},
				word[slog.Level]{"warn", slog.LevelWarn}, word[slog.Level]{"error", slog.LevelError})),
		bind("log.format", `"text"`, func(c *Config) *LogFormat { return &c.Log.Format },
			oneOf(word[LogFormat]{"text", LogText}, word[LogFormat]{"json", LogJSON})),
	}
}

// overrideKeys are those of an [[override]] entry.
func overrideKeys() []key[Override] {
	return []key[Override]{
		bind("override.domain", "", func(o *Override) *string { return &o.Domain }, domain),
		{"override.policy", "", setPolicy},
		bind("override.reason", `""`, func(o *Override) *string { return &o.Reason }, oneLine),
		bind("override.until", "", func(o *Override) *time.Time { return &o.Until }, until),
	}
}

// later is a key of a later release. It may be there, so that one file serves
// more than one release, but it may not ask for anything: nobody shall believe
// that something is on which is not.
type later struct {
	path string
	// idle are the values that ask for nothing, the future default first.
	idle []any
}

// laterKeys is the only place that knows them: whoever builds a feature deletes
// its line here and adds one to keys.
func laterKeys() []later {
	return nil
}

// tables are the keys, arranged for reading.
type tables struct {
	keys     map[string]key[Config]
	later    map[string]later
	override map[string]key[Override]
	// names are the tables that there are, except overrideTable.
	names map[string]bool
	// paths are the keys that may be hinted at, headers the tables.
	paths, headers []string
}

func newTables() tables {
	t := tables{
		keys: map[string]key[Config]{}, later: map[string]later{}, override: map[string]key[Override]{},
		names: map[string]bool{}, headers: []string{overrideTable},
	}
	for _, k := range keys() {
		t.keys[k.path] = k
		t.paths = append(t.paths, k.path)
		t.name(k.path)
	}
	for _, k := range overrideKeys() {
		t.override[k.path] = k
		t.paths = append(t.paths, k.path)
	}
	for _, l := range laterKeys() {
		t.later[l.path] = l
		t.name(l.path)
	}
	return t
}

// name records the table of a key.
func (t *tables) name(path string) {
	table, _ := split(path)
	if table != "" && !t.names[table] {
		t.names[table] = true
		t.headers = append(t.headers, table)
	}
}

// list says what there is where an unknown path was found.
func (t *tables) list(path string) string {
	table, _ := split(path)
	var names []string
	for _, p := range t.paths {
		if in, name := split(p); in == table {
			names = append(names, name)
		}
	}
	if table != "" {
		if len(names) == 0 {
			return header(table) + " has no keys in this release"
		}
		return fmt.Sprintf("%s has %s", header(table), strings.Join(names, ", "))
	}
	for _, h := range t.headers {
		names = append(names, header(h))
	}
	return "there are " + strings.Join(names, ", ")
}
