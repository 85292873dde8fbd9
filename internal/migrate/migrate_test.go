package migrate_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/migrate"
)

// TestRead: what each key becomes.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text, from, mainCF string
		has                []string // in the TOML
		notes              []string
	}{
		"resolver, as Debian installs it": {
			"host: 127.0.0.1\nport: 8461\nreuse_port: true\nshutdown_timeout: 20\ncache:\n  type: internal\n  options:\n    cache_size: 10000\ndefault_zone:\n  strict_testing: false\n  timeout: 4\n",
			"postfix-mta-sts-resolver", "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix",
			[]string{`listen = ["inet:127.0.0.1:8461"]`, `timeout = "4s"`},
			[]string{"outlive a restart", "DANE goes before"},
		},
		"resolver, with everything": {
			"path: /var/spool/postfix/mta-sts.sock\nmode: 0660\ncache_grace: 60\nproactive_policy_fetching:\n  enabled: true\n  interval: 86400\ncache:\n  type: sqlite\n  options:\n    filename: /var/lib/mta-sts/cache.db\n    threads: 4\n" +
				"default_zone:\n  strict_testing: true\n  timeout: 10\nzones:\n  strict:\n    strict_testing: true\n    require_sni: false\n    timeout: 4\nsurprise: 1\n",
			"postfix-mta-sts-resolver", "smtp_tls_policy_maps = socketmap:unix:/var/spool/postfix/mta-sts.sock:postfix",
			[]string{`listen = ["unix:/var/spool/postfix/mta-sts.sock"]`, `socket_mode = "0660"`, `timeout = "10s"`},
			[]string{"proxy:socketmap:unix:", "default_zone.strict_testing", "zones.strict.strict_testing", "require_sni", `map name "strict"`, "/var/lib/mta-sts/cache.db are not read", "surprise is not known here"},
		},
		"resolver, redis and IPv6": {
			"host: \"::1\"\nport: 8461\ncache:\n  type: redis\n  options:\n    url: redis://localhost/0\n    socket_timeout: 5\nzones:\n  postfix:\n    timeout: 0\n",
			"postfix-mta-sts-resolver", "smtp_tls_policy_maps = socketmap:inet:[::1]:8461:postfix",
			[]string{`listen = ["inet:[::1]:8461"]`},
			[]string{"kind redis", "[store] shared", "cache.options.url: it belongs into", "cache.options.socket_timeout: how the other", "not from 1 to 300"},
		},
		"resolver, large": {
			"port: 8461\ncache:\n  options:\n    cache_size: 2500000\n", "postfix-mta-sts-resolver", "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix",
			[]string{"entries = 2500000"},
			nil,
		},
		"tlspol, as it comes": {
			"server:\n  address: 127.0.0.1:8642\n  socket-permissions: 0666\n  log-level: info\n  log-format: text\n  prefetch: true\n  cache-file: /var/lib/postfix-tlspol/cache.db\ndns:\n  #address: 127.0.0.53:53\n",
			"postfix-tlspol", "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8642:postfix",
			[]string{`listen = ["inet:127.0.0.1:8642"]`, "refresh_ahead = true", `level = "info"`, `format = "text"`},
			[]string{"QUERYwithTLSRPT", "cache.db is not read"},
		},
		"tlspol, with everything": {
			"server:\n  address: unix:/run/postfix-tlspol/tlspol.sock\n  socket-permissions: 0o600\n  log-level: warn\n  log-format: json\n  prefetch: false\n  metrics-address: 127.0.0.1:9642\n  tlsrpt: true\n  namedzone: x\ndns:\n  address: 127.0.0.53\n",
			"postfix-tlspol", "smtp_tls_policy_maps = socketmap:unix:/run/postfix-tlspol/tlspol.sock:postfix",
			[]string{`socket_mode = "0600"`, "refresh_ahead = false", `level = "warn"`, `format = "json"`, `servers = ["127.0.0.53:53"]`, "[http]\nlisten = \"127.0.0.1:9642\""},
			[]string{"metrics have other names", "ListenStream", "postfix-tlsrpt", "server.namedzone is not known here"},
		},
		"tlspol, with mistakes": {
			"server:\n  log-level: loud\n  log-format: xml\n  socket-permissions: rw\n  address: \"unix:/run/x\"\ndns:\n  address: localhost\n",
			"postfix-tlspol", "smtp_tls_policy_maps = socketmap:unix:/run/x:postfix",
			nil,
			[]string{`log level "loud"`, `log format "xml"`, `mode "rw"`, `dns.address "localhost"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := migrate.Read([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if r.From != c.from || r.MainCF != c.mainCF {
				t.Errorf("from %s: %s", r.From, r.MainCF)
			}
			for _, want := range append(c.has, "# main.cf: "+c.mainCF) {
				if !strings.Contains(r.TOML, want) {
					t.Errorf("no %q in\n%s", want, r.TOML)
				}
			}
			notes := strings.Join(r.Notes, "\n")
			for _, want := range c.notes {
				if !strings.Contains(notes, want) {
					t.Errorf("no note %q in\n%s", want, notes)
				}
			}
			if _, err := config.Parse("policyd.toml", []byte(r.TOML)); err != nil {
				t.Errorf("what comes of it is refused: %v\n%s", err, r.TOML)
			}
		})
	}
}

// TestEveryKey: of each key that one of the two daemons has had, something is said or set.
func TestEveryKey(t *testing.T) {
	const resolver, tlspol = "host: 127.0.0.1\n", "dns: {address: 127.0.0.1:53}\n"
	for text, want := range map[string]string{
		resolver + "reuse_port: true": "reuse_port: ", resolver + "shutdown_timeout: 20": "shutdown_timeout: ", resolver + "cache_grace: 60.5": "cache_grace: ",
		resolver + "logfile: /var/log/x": "logfile: ", resolver + "tlsrpt: true": "postfix-tlsrpt", resolver + "mode: 0666": "", resolver + "path: /x\nmode: 0666": "socket_mode",
		resolver + "proactive_policy_fetching: {enabled: true}":                                                                          "proactive_policy_fetching.enabled: ",
		resolver + "proactive_policy_fetching: {interval: 86400}":                                                                        "proactive_policy_fetching.interval: ",
		resolver + "proactive_policy_fetching: {concurrency_limit: 100}":                                                                 "proactive_policy_fetching.concurrency_limit: ",
		resolver + "proactive_policy_fetching: {grace_ratio: 2.0}":                                                                       "proactive_policy_fetching.grace_ratio: ",
		resolver + "cache: {type: internal, options: {cache_size: 10000}}":                                                               "cache.options.cache_size: ",
		resolver + "cache: {type: sqlite, options: {threads: 4, timeout: 5}}":                                                            "cache.options.threads, cache.options.timeout: ",
		resolver + "cache: {type: redis, options: {url: 'redis://x/0'}}":                                                                 "cache.options.url: ",
		resolver + "cache: {type: redis, options: {max_connections: 25}}":                                                                "cache.options.max_connections: ",
		resolver + "cache: {type: redis_sentinel, options: {sentinel_master_name: m, sentinels: [[a, 26379], [b, 26379]], password: p}}": "cache.options.password, cache.options.sentinel_master_name, cache.options.sentinels: ",
		resolver + "cache: {type: postgres, options: {dsn: 'postgres://x'}}":                                                             "cache.options.dsn: ",
		resolver + "default_zone: {strict_testing: true}":                                                                                "default_zone.strict_testing: ",
		resolver + "default_zone: {require_sni: false}":                                                                                  "default_zone.require_sni: ",
		resolver + "default_zone: {timeout: 4}\nzones: {a: {timeout: 5}}":                                                                "zones.a.timeout: ",
		tlspol + "server: {tlsrpt: yes}":                                                                                                 "tlsrpt: ", tlspol + "server: {strict: true}": "server.strict: ",
		tlspol + "server: {prefetch: no}": "refresh_ahead = false", tlspol + "server: {cache-file: /x}": "/x is not read",
		tlspol + "server: {metrics-address: 'unix:/run/x'}": "server.metrics-address ", tlspol + "server: {metrics-address: '0.0.0.0:9642'}": "server.metrics-address ",
		tlspol + "server: {metrics-address: '[::1]:9642'}":  `listen = "[::1]:9642"`,
		tlspol + "redis: {disable: yes, address: a, db: 2}": "redis.address, redis.db, redis.disable: ", tlspol + "redis: {password: p}": "redis.password: ",
		tlspol + "server: {socket-permissions: 0666}": "", tlspol + "server: {log-level: debug, log-format: json}": `level = "debug"`,
		tlspol + "server: {address: 'unix:/run/x', redis: 1}": "server.redis is not known here",
	} {
		r, err := migrate.Read([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !strings.Contains(r.TOML, want) {
			t.Errorf("%s: no %q in\n%s", text, want, r.TOML)
		}
		if strings.Contains(r.TOML, "is not known here, and was") && !strings.Contains(want, "not known") {
			t.Errorf("%s: not known:\n%s", text, r.TOML)
		}
		if _, err := config.Parse("made", []byte(r.TOML)); err != nil {
			t.Errorf("%s: refused: %v", text, err)
		}
	}
}

// TestPage: docs/migration.md shows what is printed.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Debian's":   "# as installed\ncache:\n  type: sqlite\n  options:\n    filename: \"/var/lib/mta-sts/cache.db\"\n",
		"a sentinel": "host: 127.0.0.1\nport: 8461\nreuse_port: true\nshutdown_timeout: 20\ncache:\n  type: redis_sentinel\n  options:\n    sentinel_master_name: mymaster\n    sentinels:\n      - [sentinel1, 26379]\n    password: secret\n    max_connections: 25\ndefault_zone:\n  strict_testing: false\n  timeout: 4\n",
		"tlspol's":   "server:\n  address: 127.0.0.1:8642\n  socket-permissions: 0666\n  log-level: info\n  log-format: text\n  prefetch: true\n  cache-file: /var/lib/postfix-tlspol/cache.db\ndns:\n",
	} {
		r, err := migrate.Read([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "```\n"+r.TOML+"```\n") {
			t.Errorf("docs/migration.md does not show, of %s:\n%s", name, r.TOML)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]error{
		"":               migrate.ErrSyntax,
		"- a\n- b\n":     migrate.ErrSyntax,
		"a: [":           migrate.ErrSyntax,
		"listen: here\n": migrate.ErrUnknown,
	} {
		if _, err := migrate.Read([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("host: 127.0.0.1\nport: 8461\ncache: {type: sqlite}\nzones: {a: {timeout: 3}}\n"))
	f.Add([]byte("server: {address: 'unix:/x', socket-permissions: 0666}\ndns: {address: '::1'}\n"))
	f.Add([]byte("host: &a {b: *a}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := migrate.Read(text)
		if err != nil {
			return
		}
		// What it makes may be refused, with a reason; it is TOML in any case.
		if _, err := config.Parse("made", []byte(r.TOML)); err != nil && strings.Contains(err.Error(), "toml: ") {
			t.Errorf("%v\n%s", err, r.TOML)
		}
	})
}
