-- Grain: one row per channel. The reference channel, online, has effect 0. Units: the link scale of each outcome.
create or replace temp table channel_effect as
with channel as (
    select unnest(['online', 'pickup', 'store']) as channel
)

select
    channel.channel,
    coalesce(max(truth.value) filter (truth.outcome = 'log_amount'), 0) as amount,
    coalesce(max(truth.value) filter (truth.outcome = 'is_kept'), 0) as kept
from channel
left join truth on truth.term = 'channel[' || channel.channel || ']' and truth.parameter = 'coefficient'
group by channel.channel
