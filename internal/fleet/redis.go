package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Form is how the servers of a shared store work together. The zero value is one server.
type Form uint8

const (
	// Single: one server, at the first address that answers.
	Single Form = iota
	// Sentinel: the addresses are those of sentinels, which name the master.
	Sentinel
	// Cluster: the addresses are those of some of a cluster's nodes.
	Cluster
)

// Server is where a shared store is, and how to get in.
type Server struct {
	Form Form
	// Addresses are host:port.
	Addresses []string
	// Master is the name by which sentinels know the master.
	Master string
	// DB is the number of the database; a cluster has 0 only.
	DB int
	// User and Password are for the servers, not for sentinels.
	User, Password string
	// TLS is nil for plain connections. ServerName is filled in.
	TLS *tls.Config
}

// String names the server without its password.
func (s Server) String() string { return strings.Join(s.Addresses, ",") }

const (
	dialTime = 2 * time.Second
	pageSize = 500
)

var (
	errNoMaster = errors.New("fleet: no sentinel knows the master")
	// errMoved: the sentinels name another master than the one that is spoken with.
	errMoved = errors.New("fleet: another server is the master now")
)

// redis is a shared store on Redis.
type redis struct {
	rueidis.Client
	server Server
	// address is that of the one server, "" for a cluster.
	address string
}

// dial connects. What it returns is within reach.
func dial(ctx context.Context, s Server) (exchange, error) {
	if s.Form == Cluster {
		c, err := client(ctx, s, s.Addresses)
		if err != nil {
			return nil, err
		}
		return &redis{Client: c, server: s}, nil
	}
	addresses := s.Addresses
	if s.Form == Sentinel {
		master, err := findMaster(ctx, s)
		if err != nil {
			return nil, err
		}
		addresses = []string{master}
	}
	var errs []error
	for _, address := range addresses {
		c, err := client(ctx, s, []string{address})
		if err == nil {
			return &redis{Client: c, server: s, address: address}, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// client makes a client of the library. The library's own work with sentinels is not used: it
// trusts what they say as to its form.
func client(ctx context.Context, s Server, addresses []string) (c rueidis.Client, err error) {
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fmt.Errorf("%w: %v", errProtocol, r)
		}
	}()
	c, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: slices.Clone(addresses), Username: s.User, Password: s.Password, SelectDB: s.DB,
		TLSConfig: s.TLS, DialCtxFn: dialGuarded,
		Dialer:            net.Dialer{Timeout: dialTime, KeepAlive: 5 * time.Second},
		ForceSingleClient: s.Form != Cluster,
		ClientName:        "tlsverdict", ClientSetInfo: rueidis.DisableClientSetInfo,
		// Nothing is cached twice, few commands are under way, RESP2 is what the guard knows,
		// and a question that has no answer in time does not end the connection.
		DisableCache: true, AlwaysRESP2: true, DisableRetry: true, AlwaysPipelining: true, PipelineMultiplex: -1,
		RingScaleEachConn: 8, ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10, BlockingPoolSize: 4,
		ConnWriteTimeout: workTime,
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return c, ctx.Err()
}

// dialGuarded connects, and guards the connection: see guard.go.
func dialGuarded(ctx context.Context, address string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	if secure == nil {
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return guard(c), nil
	}
	secure = secure.Clone()
	if secure.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		secure.ServerName = host
	}
	c, err := (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return guard(c), nil
}

// findMaster asks the sentinels, one after another.
func findMaster(ctx context.Context, s Server) (string, error) {
	sentinels := s
	sentinels.Form, sentinels.DB, sentinels.User, sentinels.Password = Single, 0, "", ""
	errs := []error{errNoMaster}
	for _, address := range s.Addresses {
		master, err := askSentinel(ctx, sentinels, address)
		if err == nil {
			return master, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return "", errors.Join(errs...)
}

func askSentinel(ctx context.Context, s Server, address string) (string, error) {
	c, err := client(ctx, s, []string{address})
	if err != nil {
		return "", err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	// The library's command is for its own client of sentinels only.
	words, err := c.Do(ctx, c.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Master).Build()).AsStrSlice()
	if err != nil {
		return "", fmt.Errorf("fleet: master %q: %w", s.Master, err)
	}
	if len(words) != 2 {
		return "", errNoMaster
	}
	return net.JoinHostPort(words[0], words[1]), nil
}

// check asks the sentinels whether the master is still the same: one that was replaced while
// nobody could reach it goes on to answer.
func (r *redis) check(ctx context.Context) error {
	if r.server.Form != Sentinel {
		return nil
	}
	master, err := findMaster(ctx, r.server)
	if err != nil {
		// Sentinels that are away say nothing about the master.
		return nil
	}
	if master != r.address {
		return fmt.Errorf("%w: %s", errMoved, master)
	}
	return nil
}

// get reads no more of a string than a record may have, however long it is.
func (r *redis) get(ctx context.Context, places []string) ([][]byte, error) {
	commands := make(rueidis.Commands, len(places))
	for i, place := range places {
		commands[i] = r.B().Getrange().Key(place).Start(0).End(maxRecord).Build()
	}
	records := make([][]byte, len(places))
	for i, reply := range r.DoMulti(ctx, commands...) {
		record, err := reply.AsBytes()
		if told, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(told.Error(), "WRONGTYPE") {
			// A list, or a stream: something, and no record.
			record, err = []byte("?"), nil
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: read: %w", err)
		}
		if len(record) > 0 {
			records[i] = record
		}
	}
	return records, nil
}

// put writes whatever lies there before. Each record ends by itself.
func (r *redis) put(ctx context.Context, notes []note) error {
	commands := make(rueidis.Commands, len(notes))
	for i := range notes {
		if notes[i].record == nil {
			commands[i] = r.B().Del().Key(notes[i].place).Build()
			continue
		}
		commands[i] = r.B().Set().Key(notes[i].place).Value(string(notes[i].record)).PxMilliseconds(notes[i].life.Milliseconds()).Build()
	}
	for _, reply := range r.DoMulti(ctx, commands...) {
		if err := reply.Error(); err != nil {
			return fmt.Errorf("fleet: write: %w", err)
		}
	}
	return nil
}

// scan goes through all servers of a cluster, replicas too: which they are would have to be
// asked, and what they name twice is not read twice.
func (r *redis) scan(ctx context.Context, prefix string, visit func([]string) bool) error {
	for _, server := range r.Nodes() {
		var cursor uint64
		for more := true; more; more = cursor != 0 {
			bounded, cancel := context.WithTimeout(ctx, workTime)
			page, err := server.Do(bounded, server.B().Scan().Cursor(cursor).Match(prefix+"*").Count(pageSize).Build()).AsScanEntry()
			cancel()
			if err != nil {
				return fmt.Errorf("fleet: scan: %w", err)
			}
			cursor = page.Cursor
			if !visit(page.Elements) {
				return nil
			}
		}
	}
	return nil
}

func (r *redis) close() { r.Close() }
