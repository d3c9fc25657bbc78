<?php
// Jobs of each kind that a queue of Laravel knows. It has no results: that a job was done is in the file.

require __DIR__ . '/work.php';

$queue = queue();
$jobs = [];
$errors = [];
$patience = (float) (getenv('LIBRARY_PATIENCE') ?: 90);

// Calls until it succeeds: whoever gets an error does not know whether the job was taken, and asks again.
$put = function (string $name, callable $call) use (&$jobs, &$errors, &$queue, $patience) {
    for ($end = microtime(true) + $patience; ;) {
        try {
            $call($queue->getConnection());
            $jobs[] = $name;
            return;
        } catch (Throwable $e) {
            $text = substr(get_class($e) . ': ' . $e->getMessage(), 0, 160);
            $errors[$text] = ($errors[$text] ?? 0) + 1;
            if (microtime(true) > $end) {
                throw $e;
            }
            usleep(50_000);
            $queue = queue();
        }
    }
};

stream_set_blocking(STDIN, false);
$least = (int) (getenv('LIBRARY_LEAST') ?: 100);
$pause = (float) (getenv('LIBRARY_PAUSE') ?: 0.1);
for ($n = 0; $n < $least || (fread(STDIN, 1) === '' && !feof(STDIN)); $n++) {
    $put("plain-$n", fn ($to) => $to->push(Square::class, ['job' => "plain-$n"]));
    if ($n % 3 === 0) {
        $put("high-$n", fn ($to) => $to->push(Square::class, ['job' => "high-$n"], 'high'));
        $put("stumble-$n", fn ($to) => $to->push(Stumble::class, ['job' => "stumble-$n"]));
    }
    if ($n % 4 === 0) {
        $put("later-$n", fn ($to) => $to->later(1, Square::class, ['job' => "later-$n"]));
    }
    usleep((int) ($pause * 1e6));
}
for ($end = microtime(true) + $patience; ;) {
    try {
        $missing = array_diff($jobs, file(getenv('LIBRARY_DONE'), FILE_IGNORE_NEW_LINES));
        $pending = $queue->getConnection()->size('high') + $queue->connection()->size('default');
        if (!$missing && $pending === 0) {
            break;
        }
        $last = count($missing) . " missing, $pending pending";
    } catch (Throwable $e) {
        $last = $e->getMessage();
        $queue = queue();
    }
    if (microtime(true) > $end) {
        throw new RuntimeException("still not all done: $last");
    }
    usleep(100_000);
}
echo json_encode(['jobs' => $jobs, 'repeats' => array_sum($errors), 'errors' => (object) $errors]), "\n";
