// Package resolve asks recursive name servers and says what their answers are worth.
package resolve
