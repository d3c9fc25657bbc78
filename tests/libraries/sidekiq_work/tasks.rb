# Jobs of Sidekiq as its manual writes them.

require "sidekiq"
require_relative "../work"

Sidekiq.configure_server do |config|
  config.redis = { url: URL }
  config.average_scheduled_poll_interval = 1
end
Sidekiq.configure_client { |config| config.redis = { url: URL } }

class Square
  include Sidekiq::Job
  sidekiq_options retry: 9
  sidekiq_retry_in { 1 }

  def perform(job, x)
    raise "#{x} has no square" unless x * x >= 0

    done(job)
  end
end

class Urgent < Square
  sidekiq_options queue: "high"
end

class Stumble < Square
  # Fails the first time.
  def perform(job, x)
    marker = "#{DONE}.#{job}"
    unless File.exist?(marker)
      File.write(marker, "tried\n")
      raise "the first try fails"
    end
    super
  end
end
