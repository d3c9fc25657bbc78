<?php
// A worker, as `artisan queue:work --queue=high,default --tries=9` has one.

require __DIR__ . '/work.php';

use Illuminate\Container\Container;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;

class Teller implements ExceptionHandler
{
    public function report(Throwable $e)
    {
        fwrite(STDERR, get_class($e) . ': ' . $e->getMessage() . "\n");
    }

    public function shouldReport(Throwable $e)
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
        throw $e;
    }

    public function renderForConsole($output, Throwable $e)
    {
        throw $e;
    }
}

$manager = queue()->getQueueManager();
$worker = new Worker($manager, Container::getInstance()['events'], new Teller(), fn () => false);
$worker->daemon('default', 'high,default', new WorkerOptions('default', 0, 128, 60, 0.1, 9));
