package steward

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seldom
		began, spent := time.Now(), time.Duration(0)
		for time.Since(began) < time.Minute {
			if s.due() {
				at := time.Now()
				time.Sleep(time.Second)
				s.took(at)
				spent += time.Since(at)
			}
			time.Sleep(lookEvery)
		}
		if spent > time.Minute/5+time.Second || spent < 10*time.Second {
			t.Errorf("%v of a minute", spent)
		}
		if s.took(time.Now()); !s.due() {
			t.Error("what takes no time has to wait")
		}
	})
}
