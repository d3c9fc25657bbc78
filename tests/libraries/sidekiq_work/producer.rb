# Jobs of each kind that Sidekiq knows. It has no results: that a job was done is in the file.

require "sidekiq/api"
require_relative "tasks"

asked = Asked.new
rounds do |n|
  asked.put("plain-#{n}") { Square.perform_async("plain-#{n}", n) }
  if (n % 3).zero?
    asked.put("high-#{n}") { Urgent.perform_async("high-#{n}", n) }
    asked.put("stumble-#{n}") { Stumble.perform_async("stumble-#{n}", n) }
  end
  asked.put("later-#{n}") { Square.perform_in(1, "later-#{n}", n) } if (n % 4).zero?
end
wait_until("all are done") { (asked.jobs - File.readlines(DONE, chomp: true)).empty? }
wait_until("nothing is pending") do
  Sidekiq::Queue.all.sum(&:size) + Sidekiq::RetrySet.new.size + Sidekiq::ScheduledSet.new.size + Sidekiq::DeadSet.new.size == 0
end
asked.report
