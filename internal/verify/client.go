package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"unkai"
)

// client asks one endpoint, by the meta protocol: its replies tell cas uniques.
type client struct {
	endpoint string
	timeout  time.Duration
	conn     net.Conn
	r        *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // whatever it says, a new one will be made
		c.conn = nil
	}
}

// do asks for one operation. An answer that did not come leaves it in doubt,
// unless nothing was sent.
func (c *client) do(op *unkai.Op) unkai.Result {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.endpoint, c.timeout)
		if err != nil {
			return unkai.Result{Status: unkai.Failed, Err: err}
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	err := c.conn.SetDeadline(time.Now().Add(c.timeout))
	if err == nil {
		_, err = io.WriteString(c.conn, request(op))
	}
	var res unkai.Result
	if err == nil {
		res, err = c.reply(op)
	}
	if err != nil {
		c.close()
		return unkai.Result{Status: unkai.InDoubt, Err: err}
	}
	return res
}

// request is an operation in the meta protocol.
func request(op *unkai.Op) string {
	cas := ""
	if op.Compare {
		cas = fmt.Sprintf(" C%d", op.CAS)
	}
	switch op.Kind {
	case unkai.Get:
		return fmt.Sprintf("mg %s v f c\r\n", op.Key)
	case unkai.Delete:
		return fmt.Sprintf("md %s%s\r\n", op.Key, cas)
	case unkai.Increment, unkai.Decrement:
		mode := "I"
		if op.Kind == unkai.Decrement {
			mode = "D"
		}
		return fmt.Sprintf("ma %s v c M%s D%d%s\r\n", op.Key, mode, op.Delta, cas)
	case unkai.Touch:
		return fmt.Sprintf("mg %s c f T0\r\n", op.Key)
	}
	mode := map[unkai.Kind]string{
		unkai.Set: "S", unkai.Add: "E", unkai.Replace: "R", unkai.Append: "A", unkai.Prepend: "P",
	}[op.Kind]
	return fmt.Sprintf("ms %s %d c M%s%s\r\n%s\r\n", op.Key, len(op.Value), mode, cas, op.Value)
}

var errReply = errors.New("a reply that was not understood")

// reply reads the answer to an operation.
func (c *client) reply(op *unkai.Op) (res unkai.Result, err error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return res, err
	}
	line = strings.TrimRight(line, "\r\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return res, errReply
	}
	switch words[0] {
	case "HD":
		res.Status = unkai.OK
		return res, flags(&res, words[1:])
	case "VA":
		return c.value(op, words)
	case "EN", "NF":
		res.Status = unkai.Miss
	case "NS":
		res.Status = unkai.NotStored
	case "EX":
		res.Status = unkai.Exists
	case "CLIENT_ERROR":
		if !strings.Contains(line, "non-numeric") {
			return res, fmt.Errorf("%w: %s", errReply, line)
		}
		res.Status = unkai.NotNumber
	case "SERVER_ERROR":
		res.Status, res.Err = unkai.InDoubt, errors.New(line)
		if strings.HasPrefix(line, "SERVER_ERROR not applied") || strings.Contains(line, "out of memory storing") {
			res.Status = unkai.Failed
		}
	default:
		return res, fmt.Errorf("%w: %s", errReply, line)
	}
	return res, nil
}

func (c *client) value(op *unkai.Op, words []string) (res unkai.Result, err error) {
	if len(words) < 2 {
		return res, errReply
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 0 || n > unkai.MaxValueLen {
		return res, fmt.Errorf("%w: a value of %s bytes", errReply, words[1])
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return res, err
	}
	res.Status, res.Item.Value = unkai.OK, b[:n]
	if op.Kind == unkai.Increment || op.Kind == unkai.Decrement {
		if res.Number, err = strconv.ParseUint(strings.TrimSpace(string(b[:n])), 10, 64); err != nil {
			return res, fmt.Errorf("%w: %w", errReply, err)
		}
		res.Item.Value = nil
	}
	return res, flags(&res, words[2:])
}

// flags reads the flags of a meta reply that were asked for.
func flags(res *unkai.Result, words []string) (err error) {
	for _, w := range words {
		switch w[0] {
		case 'c':
			res.Item.CAS, err = strconv.ParseUint(w[1:], 10, 64)
		case 'f':
			var n uint64
			n, err = strconv.ParseUint(w[1:], 10, 32)
			res.Item.Flags = uint32(n)
		}
		if err != nil {
			return fmt.Errorf("%w: flag %s", errReply, w)
		}
	}
	return nil
}
