/*
** Numbers that come out the same on every processor and C library.
** Not part of Lua; see README.md.
*/

#ifndef skepnum_h
#define skepnum_h

#include <limits.h>
#include <math.h>

/* of the Rust crate libm, by src/lib.rs */
double skep_sin (double x);
double skep_sinh (double x);
double skep_cos (double x);
double skep_cosh (double x);
double skep_tan (double x);
double skep_tanh (double x);
double skep_asin (double x);
double skep_acos (double x);
double skep_atan (double x);
double skep_atan2 (double y, double x);
double skep_exp (double x);
double skep_log (double x);
double skep_log10 (double x);
double skep_pow (double x, double y);

/* NaN with its sign set, as 0/0 is on x86 */
static inline double skep_nan (double x) {
  return (x != x) ? copysign(x, -1.0) : x;
}

/* as a cast does on x86 */
static inline int skep_number2int (double x) {
  return (x > -2147483649.0 && x < 2147483648.0) ? (int)x : INT_MIN;
}

static inline long long skep_number2ll (double x) {
  return (x >= -9223372036854775808.0 && x < 9223372036854775808.0)
         ? (long long)x : LLONG_MIN;
}

static inline unsigned long long skep_number2ull (double x) {
  if (x >= 9223372036854775808.0 && x < 18446744073709551616.0)
    return (unsigned long long)x;
  return (unsigned long long)skep_number2ll(x);
}

#endif
