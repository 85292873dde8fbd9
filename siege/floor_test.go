package siege

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"tlsverdict/postfixmap"
)

// floorAddress is where the floor listens: a process that reads netstrings and has the
// same answer to each. Nobody attacks it. What its clients have to wait for while the
// daemon is under attack, they wait for the machine.
const floorAddress = "127.0.0.1:8462"

// floor is that process.
func floor() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", floorAddress)
	if err != nil {
		fmt.Fprintln(os.Stderr, "siege:", err)
		return 1
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := postfixmap.NewReader(c, postfixmap.MaxRequest); ; {
					if _, err := in.Next(); err != nil {
						return
					}
					if _, err := c.Write([]byte("9:NOTFOUND ,")); err != nil {
						return
					}
				}
			}()
		}
	}()
	fmt.Println("ready")
	<-ctx.Done()
	_ = l.Close()
	return 0
}

// pair is what two kinds of clients saw at the same time.
type pair struct{ mine, floor *latencies }

// besideFloor asks for a while, as lasting does, and the floor too.
func (p population) besideFloor(ctx context.Context, d time.Duration) pair {
	least := make(chan *latencies)
	go func() {
		least <- population{clients: p.clients, pause: p.pause, at: floorAddress, keys: map[string]string{"floor.example": "NOTFOUND "}}.lasting(ctx, d)
	}()
	mine := p.lasting(ctx, d)
	return pair{mine, <-least}
}

// times compares the p99 with those of a quiet time.
func (p pair) times(quiet pair) string {
	return fmt.Sprintf("%.1f times the quiet p99; the floor beside it: p99 %v, %.1f times its quiet one",
		float64(p.mine.at(0.99))/float64(quiet.mine.at(0.99)), p.floor.at(0.99).Round(10*time.Microsecond), float64(p.floor.at(0.99))/float64(quiet.floor.at(0.99)))
}

// serveFloor starts it. It ends with the test.
func serveFloor(t *testing.T) {
	t.Helper()
	besiege(t, "floor")
}
