package memcache

import "time"

// A client that sends a request just when its connection is closed gets no answer, and
// cannot know whether the request was carried out. The protocol has no word for going
// away, so the server looks for a moment at which the client is unlikely to wait for
// anything: right after the answer to a request that came alone, since the client has
// yet to read it; or when nothing has come for a while.
const (
	// quietFor is how long nothing may have come: longer than a request and its answer
	// are on their way, also between sites.
	quietFor = 100 * time.Millisecond
	// lingerFor is how long a client that never pauses is listened to, and one in the
	// middle of a request.
	lingerFor = time.Second
	// lookFor is how long the last look takes, at what has come meanwhile.
	lookFor = 10 * time.Millisecond
)

// interrupt has a connection end soon, because the server is closing.
func (c *conn) interrupt() {
	c.leaving.Store(true)
	_ = c.nc.SetReadDeadline(time.Now().Add(quietFor)) // if it cannot be set, the connection is gone
}

// linger sets the deadline for reading of a connection that is leaving. It reports
// false when it has lingered for long enough.
func (c *conn) linger(half bool) bool {
	now := time.Now()
	if c.leaveBy.IsZero() {
		c.leaveBy = now.Add(lingerFor)
	}
	by := c.leaveBy
	if quiet := now.Add(quietFor); !half && quiet.Before(by) {
		by = quiet
	}
	return now.Before(by) && c.nc.SetReadDeadline(by) == nil
}

// again sets the deadline for a second read of a connection that is leaving, after the
// first has come to its end. The one that the interrupt has set knows nothing of halves.
// And a process that stood still while a request came is told that the time is up: so
// there is a last look.
func (c *conn) again(half bool) bool {
	if half {
		return c.linger(half)
	}
	return c.nc.SetReadDeadline(time.Now().Add(lookFor)) == nil
}

// satisfied reports whether the client has just been sent the answer to all that it has
// asked, as far as can be seen: one that sends several requests at once may have sent
// more.
func (c *conn) satisfied() bool {
	return len(c.requests) == 1 && !c.requests[0].quiet && c.r == c.w && c.skip == 0
}
