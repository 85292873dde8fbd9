package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleEnv makes the test binary one of the servers below instead of running tests.
const roleEnv = "TLSVERDICT_BENCH_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	run := map[string]func([]string) error{"floor": runFloor, "standin": runStandIn, "milterfloor": runMilterFloor}[role]
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// address is where a server listens.
type address struct{ network, name string }

func (a address) String() string {
	if a.network == "tcp" {
		return "inet:" + a.name
	}
	return "unix:" + a.name
}

// addresses makes one address of each transport for a server.
func addresses(dir, who string) (unix, tcp address, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return unix, tcp, err
	}
	defer l.Close()
	return address{"unix", filepath.Join(dir, who)}, address{"tcp", l.Addr().String()}, nil
}

// process is a server under measurement.
type process struct {
	cmd       *exec.Cmd
	unix, tcp address
	in        io.WriteCloser
	out       *bufio.Reader
	ended     chan error
}

// again prepares this binary in a role.
func again(ctx context.Context, role string, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd, nil
}

// launch starts a server, whose stderr goes to a file of its name. It dies with this
// process.
func (p *process) launch(dir, who string) (err error) {
	log, err := os.Create(filepath.Join(dir, who+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.ended = make(chan error, 1)
	go func() { p.ended <- p.cmd.Wait() }()
	return nil
}

// stop ends a server and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// ready waits until a server answers a question that needs no lookup, and returns the
// time of the answer.
func (p *process) ready(ctx context.Context, a address, within time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := time.NewTicker(200 * time.Microsecond)
	defer pause.Stop()
	for {
		_, err := askOnce(a, ".ready")
		if err == nil {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no answer in %v: %w", within, err)
		case err := <-p.ended:
			p.ended <- err
			return time.Time{}, fmt.Errorf("ended: %w", err)
		case <-pause.C:
		}
	}
}

// tick is the unit of /proc/PID/stat on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the processor time that a server has used.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

// memory reads a line of /proc/PID/status, such as "VmRSS", in bytes.
func (p *process) memory(line string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// resetPeak lets VmHWM begin anew.
func (p *process) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// startFloor starts the floor on both transports.
func startFloor(ctx context.Context, dir string) (*process, error) {
	p := new(process)
	var err error
	if p.unix, p.tcp, err = addresses(dir, "floor"); err != nil {
		return nil, err
	}
	if p.cmd, err = again(ctx, "floor", p.unix.name, p.tcp.name); err != nil {
		return nil, err
	}
	if err := p.launch(dir, "floor"); err != nil {
		return nil, err
	}
	_, err = p.ready(ctx, p.tcp, 10*time.Second)
	return p, err
}

// runFloor is the least that answers netstrings at all.
func runFloor(args []string) error {
	u, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	t, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	for _, l := range []net.Listener{u, t} {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					failed <- err
					return
				}
				go echo(c)
			}
		}()
	}
	return <-failed
}

func echo(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		head, err := r.ReadSlice(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(string(head[:len(head)-1]))
		if err != nil {
			return
		}
		_, _ = w.Write(head)
		payload, err := r.Peek(n + 1)
		if err != nil {
			return
		}
		_, _ = w.Write(payload)
		_, _ = r.Discard(n + 1)
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// buildPolicyd compiles the program under measurement as make build does.
func buildPolicyd(ctx context.Context, dir string) (string, error) {
	to := filepath.Join(dir, "policyd")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "tlsverdict/cmd/policyd")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return to, nil
}

// startPolicyd starts the real one, listening on both transports, with more lines of
// configuration. It returns at once; ready waits.
func startPolicyd(ctx context.Context, dir, binary, config string) (*process, error) {
	p := new(process)
	var err error
	if p.unix, p.tcp, err = addresses(dir, "policyd.sock"); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "policyd.toml")
	text := fmt.Sprintf("[socketmap]\nlisten = [%q, %q]\n%s", p.unix, p.tcp, config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(ctx, binary, "serve", "--config", file)
	return p, p.launch(dir, "policyd")
}

// errNotFound is no answer of the kind that was wanted.
var errReply = errors.New("bench: an unexpected reply")
