<?php
// A queue of Laravel without the rest of it, and the jobs. See work.py, which says what each variable means.

foreach (['Container', 'Events', 'Queue', 'Redis'] as $part) {
    require_once "Illuminate/$part/autoload.php";
}

use Illuminate\Container\Container;
use Illuminate\Events\Dispatcher;
use Illuminate\Queue\Capsule\Manager;
use Illuminate\Queue\Jobs\Job;
use Illuminate\Redis\RedisManager;

function queue(): Manager
{
    $container = new Container();
    Container::setInstance($container);
    $container->instance('events', new Dispatcher($container));
    $container->singleton('redis', fn () => new RedisManager($container, 'phpredis', ['default' => [
        'host' => getenv('LIBRARY_HOST') ?: '127.0.0.1',
        'port' => (int) getenv('LIBRARY_PORT'),
        'database' => (int) getenv('LIBRARY_DB'),
    ]]));
    $queue = new Manager($container);
    // What a worker has had for 5 s without deleting it is given to another.
    $queue->addConnection(['driver' => 'redis', 'connection' => 'default', 'queue' => 'default', 'retry_after' => 5]);

    return $queue;
}

function done(string $job): void
{
    file_put_contents(getenv('LIBRARY_DONE'), "$job\n", FILE_APPEND);
}

class Square
{
    public function fire(Job $job, array $data): void
    {
        done($data['job']);
        $job->delete();
    }
}

class Stumble
{
    /** Fails the first time. */
    public function fire(Job $job, array $data): void
    {
        if ($job->attempts() === 1) {
            throw new RuntimeException('the first try fails');
        }
        done($data['job']);
        $job->delete();
    }
}
