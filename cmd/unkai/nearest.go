package main

// nearest is the name most like a mistyped one, or empty when none is much like
// it: more than half of their letters have to agree, in order.
func nearest(typed string, names []string) string {
	best, score := "", 0.5
	for _, n := range names {
		if s := 2 * float64(common(typed, n)) / float64(len(typed)+len(n)); s > score {
			best, score = n, s
		}
	}
	return best
}

// common is the length of the longest common subsequence.
func common(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range len(a) {
		diagonal := 0
		for j := range len(b) {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}
