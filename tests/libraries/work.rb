# What the Ruby programs of this directory share: see work.py, which says what each variable means.

require "json"

URL = "redis://#{ENV.fetch("LIBRARY_HOST", "127.0.0.1")}:#{ENV.fetch("LIBRARY_PORT", "6379")}/#{ENV.fetch("LIBRARY_DB", "0")}"
DONE = ENV.fetch("LIBRARY_DONE", "")
LEAST = Integer(ENV.fetch("LIBRARY_LEAST", "100"))
PAUSE = Float(ENV.fetch("LIBRARY_PAUSE", "0.1"))
PATIENCE = Float(ENV.fetch("LIBRARY_PATIENCE", "90"))

def done(job)
  File.open(DONE, "a") { |file| file.syswrite("#{job}\n") }
end

# Numbers until stdin ends, LEAST at least.
def rounds
  over = false
  Thread.new do
    $stdin.read
    over = true
  end
  number = 0
  while number < LEAST || !over
    yield number
    number += 1
    sleep PAUSE
  end
end

# The jobs that a producer was told are in the queue.
class Asked
  def initialize
    @jobs = []
    @errors = Hash.new(0)
  end

  attr_reader :jobs

  # Calls until it succeeds: whoever gets an error does not know whether the job was taken, and asks again.
  def put(name)
    limit = Time.now + PATIENCE
    begin
      yield
    rescue StandardError => e
      @errors["#{e.class}: #{e.message}"[0, 160]] += 1
      raise if Time.now > limit

      sleep 0.05
      retry
    end
    @jobs << name
  end

  # The last line of a producer: what was asked for.
  def report
    puts JSON.generate({ jobs: @jobs, repeats: @errors.values.sum, errors: @errors })
  end
end

# Waits until the block gives true, through errors of a server that is being replaced.
def wait_until(what)
  limit = Time.now + PATIENCE
  loop do
    begin
      last = yield
      return if last
    rescue StandardError => e
      last = e
    end
    raise "after #{PATIENCE} s still not: #{what} (#{last})" if Time.now > limit

    sleep 0.1
  end
end
